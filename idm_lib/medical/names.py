"""Which files are scans, and how a slice of one is named."""

import re
from pathlib import Path

_SUFFIXES = {
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".ima": "DICOM",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
}
#: Endings of the files that are taken for scans; besides, DICOM files are known without.
SUFFIXES = tuple(_SUFFIXES)
_NUMBERED = re.compile(r"(.+)#(\d+)", re.DOTALL)


def kind_of(path: str | Path) -> str | None:
    """``DICOM``, ``NIfTI`` or ``HDF5`` by a file's name, or None; a name without suffix is looked into for DICOM."""
    path = Path(path)
    name = path.name.lower()
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    bare = path.suffix == "" or path.suffix[1:].isdigit()  # IM0001, or a UID: 1.2.840.10008
    return "DICOM" if bare and name != "dicomdir" and _has_dicom_mark(path) else None


def _has_dicom_mark(path: Path) -> bool:
    """Whether a file has DICOM's four letters after its preamble of 128 bytes."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):  # no such file, a folder, or no name that a file can have
        return False


def split_name(path: str | Path) -> tuple[Path, int | None]:
    """The file and the number of a slice's name: ``scan.nii.gz#80`` → (``scan.nii.gz``, 80), without one None."""
    match = _NUMBERED.fullmatch(str(path))
    if match and kind_of(match[1]):
        return Path(match[1]), int(match[2])
    return Path(path), None


def is_scan(path: str | Path) -> bool:
    """Whether a name, with or without the number of a slice, is that of a scan and not of a photograph."""
    return kind_of(split_name(path)[0]) is not None


def slice_stem(path: str | Path) -> str:
    """A file's name without suffix, for what is written about it: ``a/scan.nii.gz#80`` → ``scan-80``."""
    file, index = split_name(path)
    stem = file.name[: -len(".nii.gz")] if file.name.lower().endswith(".nii.gz") else file.stem
    return stem if index is None else f"{stem}-{index}"

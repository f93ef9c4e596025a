"""The scans of a folder, each with its slices and with whose it is."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from idm_lib.errors import InputError
from idm_lib.medical.dicom import read_dicom, read_header, read_series
from idm_lib.medical.fastmri import check_index, patient_of, read_fastmri
from idm_lib.medical.names import kind_of, split_name
from idm_lib.medical.nifti import read_nifti
from idm_lib.medical.opening import load_package

_READERS: dict[str, Callable[[Path], np.ndarray]] = {"DICOM": read_dicom, "NIfTI": read_nifti, "HDF5": read_fastmri}
_SUBJECT = re.compile(r"sub-[0-9A-Za-z]+")  # BIDS's label of a patient


class Slice(NamedTuple):
    """One slice.

    Args:
        name: by which :func:`read_slice` finds it, from the folder that was searched: ``sub-01/t1.nii.gz#80``.
        pixels: (H, W) uint16.
    """

    name: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Scan:
    """One volume: a file, or the DICOM files of one series in one folder.

    Args:
        folder: that was searched.
        files: in the order of their slices.
        kind: of the files, as :func:`~idm_lib.medical.names.kind_of` says.
        patient: whose it is; see :func:`find_scans`.
    """

    folder: Path
    files: tuple[Path, ...]
    kind: str
    patient: str

    def read(self) -> tuple[list[Slice], list[str]]:
        """All slices in their order, the nearly empty too, and a sentence for each file that cannot be read."""
        if self.kind == "DICOM":
            volumes, broken = read_series(self.files)
        else:
            try:
                volumes, broken = [list(_READERS[self.kind](self.files[0]))], []
            except InputError as error:
                volumes, broken = [[]], [str(error)]
        slices = []
        for path, volume in zip(self.files, volumes, strict=True):
            name, alone = path.relative_to(self.folder).as_posix(), self.kind == "DICOM" and len(volume) == 1
            slices += [Slice(name if alone else f"{name}#{i}", pixels) for i, pixels in enumerate(volume)]
        return slices, broken


def read_slice(path: str | Path) -> np.ndarray:
    """The pixels of one slice, (H, W) uint16, or of the middle one, if the name has no number.

    Args:
        path: as ``scan.nii.gz#80``.

    Raises:
        InputError: no scan, or a missing or broken one; no such slice; or its format's package is not installed.
    """
    file, index = split_name(path)
    kind = kind_of(file)
    if kind is None:
        raise InputError(f"{file} is no scan that is known; expected DICOM, NIfTI, or fastMRI's HDF5.")
    slices = _READERS[kind](file)
    return slices[check_index(file, index, len(slices))]


def middle(slices: Sequence[Slice]) -> Slice:
    """The slice in the middle, the later one of two."""
    return slices[len(slices) // 2]


def find_scans(folder: str | Path) -> tuple[list[Scan], list[str]]:
    """The scans in a folder and all below it, sorted by patient and name, and a sentence for each broken file.

    Two scans are of one patient if their files say so: by DICOM's PatientID, or StudyInstanceUID where there is none;
    by ``patient_id`` in HDF5; or by BIDS's ``sub-…`` in their names. Where nothing says so, all that is below one
    subfolder of the folder is taken to be one patient's, and each NIfTI or HDF5 file in the folder itself another's.
    Every file counts, segmentations too: keep them elsewhere.

    A format whose package is not installed counts as broken, in one sentence for all its files. Hidden files and
    folders are passed over.
    """
    folder = Path(folder)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        kind = kind_of(path)
        if kind and path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            files[kind].append(path)
    scans, broken = [], []
    for kind, paths in files.items():
        try:
            load_package(kind)
        except InputError as error:
            broken.append(f"{folder} has {len(paths)} {kind} files, but {error}")
            continue
        found, wrong = (_series if kind == "DICOM" else _volumes)(folder, kind, paths)
        scans += found
        broken += wrong
    return sorted(scans, key=lambda scan: (scan.patient, scan.files)), broken


def _volumes(folder: Path, kind: str, paths: list[Path]) -> tuple[list[Scan], list[str]]:
    """Every file is a scan."""
    scans, broken = [], []
    for path in paths:
        try:
            named = patient_of(path) if kind == "HDF5" else ""
        except InputError as error:
            broken.append(str(error))
            continue
        scans.append(Scan(folder, (path,), kind, named or _owner(path, folder)))
    return scans, broken


def _series(folder: Path, kind: str, paths: list[Path]) -> tuple[list[Scan], list[str]]:
    """The files of one series in one folder are a scan, in the order of their numbers."""
    groups, broken = defaultdict(list), []
    for path in _shown(paths, "reading headers"):
        try:
            header = read_header(path)
        except InputError as error:
            broken.append(str(error))
            continue
        groups[path.parent, header.series].append((header.number, path, header))
    scans = []
    for (parent, _), members in groups.items():
        first = members[0][2]
        patient = first.patient or first.study or _owner(parent / "*", folder)
        scans.append(Scan(folder, tuple(path for _, path, _ in sorted(members)), kind, patient))
    return scans, broken


def _owner(path: Path, folder: Path) -> str:
    """The patient as far as names tell: BIDS's label, or the first folder below, or the file itself."""
    parts = path.relative_to(folder).parts
    return next((match[0] for part in parts if (match := _SUBJECT.match(part))), parts[0])


def _shown(paths: list[Path], what: str) -> Iterable[Path]:
    return tqdm(paths, desc=what, unit="file", leave=False, disable=None)

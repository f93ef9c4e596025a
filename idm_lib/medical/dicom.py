"""DICOM files and series, with pydicom."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from idm_lib.errors import InputError
from idm_lib.medical.grey import grey, percentile_range
from idm_lib.medical.names import kind_of
from idm_lib.medical.opening import load_package, reading

_HEADER = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "Rows")


class Header(NamedTuple):
    """Where a file belongs; what it does not say is an empty text, or 0."""

    patient: str
    study: str
    series: str
    number: int


class _Frame(NamedTuple):
    values: np.ndarray  # (H, W) float32, in the scanner's units; NaN where there is only padding
    window: tuple[float, float] | None
    inverted: bool


def read_header(path: str | Path) -> Header:
    """Where a file belongs, without reading its pixels.

    Raises:
        InputError: missing, broken, or DICOM without an image, as a report. Or pydicom is not installed.
    """
    pydicom, path = load_package("DICOM"), Path(path)
    with reading(path, "DICOM"):
        data = _parsed(pydicom, path, stop_before_pixels=True, specific_tags=list(_HEADER))
        names = (str(data.get(name) or "") for name in _HEADER[:3])
        return Header(*names, int(data.get("InstanceNumber") or 0))


def read_dicom(path: str | Path) -> np.ndarray:
    """The frames of a file, (S, H, W) uint16; most files have one.

    Stored values are rescaled to the scanner's units, as Hounsfield's. Where the file has no window, the range is
    that of its series: of all files beside it with the same SeriesInstanceUID. MONOCHROME1, where large values are
    dark, is inverted; of colour the luminance counts; padding is black.

    Raises:
        InputError: missing or broken, without an image, or compressed in a way that no decoder here knows. Or pydicom
            is not installed.
    """
    path = Path(path)
    frames = _read_frames(path)
    limits = (0.0, 0.0)
    if any(frame.window is None for frame in frames):
        limits = _pooled([*frames, *(frame for other in _siblings(path) for frame in _frames_if_whole(other))])
    return np.stack([_shown(frame, limits) for frame in frames])


def read_series(paths: Sequence[Path]) -> tuple[list[list[np.ndarray]], list[str]]:
    """The frames of each file of a series, (H, W) uint16, as :func:`read_dicom` gives them, each file read once.

    Returns:
        a list a file, empty for one that cannot be read; and a sentence for each of these.
    """
    files: list[list[_Frame | np.ndarray]] = []
    broken = []
    for path in paths:
        try:  # what has a window is made grey at once: it is half as large
            files.append([_shown(frame) if frame.window else frame for frame in _read_frames(path)])
        except InputError as error:
            files.append([])
            broken.append(str(error))
    limits = _pooled([frame for frames in files for frame in frames if isinstance(frame, _Frame)])
    return [[_shown(f, limits) if isinstance(f, _Frame) else f for f in frames] for frames in files], broken


def _siblings(path: Path) -> list[Path]:
    """The other files of a file's series in its folder."""
    series, found = read_header(path).series, []
    for other in sorted(path.parent.iterdir()):
        if other != path and kind_of(other) == "DICOM" and other.is_file():
            try:
                found += [other] if read_header(other).series == series else []
            except InputError:
                continue  # it is not what was asked for
    return found


def _frames_if_whole(path: Path) -> list[_Frame]:
    try:
        return _read_frames(path)
    except InputError:
        return []


def _pooled(frames: list[_Frame]) -> tuple[float, float]:
    """The range of all frames that have no window."""
    values = [frame.values.ravel() for frame in frames if frame.window is None]
    return percentile_range(np.concatenate(values)) if values else (0.0, 0.0)


def _shown(frame: _Frame, limits: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """A frame as grey, (H, W) uint16, by its window, or else by ``limits``."""
    return grey(frame.values, *(frame.window or limits), inverted=frame.inverted)


def _read_frames(path: Path) -> list[_Frame]:
    pydicom = load_package("DICOM")
    with reading(path, "DICOM"):
        data = _parsed(pydicom, path)
        _check_decoder(pydicom, data, path)
        kind = str(data.get("PhotometricInterpretation", "MONOCHROME2"))
        count, samples = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel") or 1)
        stored = np.asarray(data.pixel_array).reshape(count, data.Rows, data.Columns, *[samples] * (samples > 1))
        if samples == 3 and stored.dtype == np.uint8:
            from idm_lib.images import luminance  # here, since it imports this package

            white = float(np.iinfo(np.uint8).max)
            return [_Frame(luminance(rgb).astype(np.float32), (0.0, white), False) for rgb in stored]
        if samples != 1 or not kind.startswith("MONOCHROME"):
            raise InputError(f"{path} holds {kind} of {stored.dtype}; expected grey values, or 8-bit colour.")
        return [_frame(pydicom, data, stored[i], i, kind == "MONOCHROME1") for i in range(count)]


def _parsed(pydicom: Any, path: Path, **options: Any) -> Any:
    """The data set of a file that has an image."""
    try:
        data = pydicom.dcmread(path, **options)
    except pydicom.errors.InvalidDicomError:
        raise InputError(
            f"{path} is not DICOM as files have it, with DICM after 128 bytes; export it again."
        ) from None
    if "Rows" not in data:
        raise InputError(f"{path} is DICOM without an image; expected a file with pixels.")
    return data


def _check_decoder(pydicom: Any, data: Any, path: Path) -> None:
    """Refuse pixels that are compressed in a way that no installed package decodes."""
    syntax = data.file_meta.TransferSyntaxUID
    try:
        known = pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if not known:
        raise InputError(
            f"{path} is compressed as {syntax.name}, for which there is no decoder here; pip install pylibjpeg[all], "
            "or decompress the file."
        )


def _frame(pydicom: Any, data: Any, stored: np.ndarray, index: int, inverted: bool) -> _Frame:
    """One frame in the scanner's units, with its window."""
    values = stored.astype(np.float32)
    units = _part(data, index, "PixelValueTransformationSequence")
    if "ModalityLUTSequence" in data:
        values = pydicom.pixels.apply_modality_lut(stored, data).astype(np.float32)
    elif "RescaleSlope" in units:
        slope, intercept = float(units.RescaleSlope), float(units.get("RescaleIntercept") or 0)
        values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    if "PixelPaddingValue" in data:
        ends = [int(data.PixelPaddingValue), int(data.get("PixelPaddingRangeLimit", data.PixelPaddingValue))]
        values[(stored >= min(ends)) & (stored <= max(ends))] = np.nan
    display = _part(data, index, "FrameVOILUTSequence")
    centre, width = (_first(display.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(display.get("VOILUTFunction") or "LINEAR")
    if centre is None or width is None or not np.isfinite([centre, width]).all() or width <= 0:
        return _Frame(values, None, inverted)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return _Frame(1 / (1 + np.exp(-4 * (values - centre) / width)), (0.0, 1.0), inverted)
    # PS3.3, C.11.2.1.2: LINEAR counts from the middles of the window's first and last value
    shift, span = (0.0, width) if function == "LINEAR_EXACT" else (0.5, max(width - 1, 0.0))
    return _Frame(values, (centre - shift - span / 2, centre - shift + span / 2), inverted)


def _part(data: Any, index: int, name: str) -> Any:
    """Where a frame's attributes of a kind stand: in its functional groups, in the shared ones, or in the file."""
    groups = [*(data.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]]
    groups += data.get("SharedFunctionalGroupsSequence") or []
    return next((group[name].value[0] for group in groups if group.get(name)), data)


def _first(value: Any) -> float | None:
    """The first of one number or several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float | str) else next(iter(value)))

"""Files of medical formats, made by the formats' own libraries."""

from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

CT = UID("1.2.840.10008.5.1.4.1.1.2")


def write_dicom(path: Path, stored: np.ndarray, **tags: Any) -> Path:
    """Stored values (H, W), (F, H, W), or (H, W, 3) with SamplesPerPixel=3; ``tags`` by keyword, None leaves out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CT, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    colour = tags.get("SamplesPerPixel", 1) == 3
    height, width = stored.shape[-3:-1] if colour else stored.shape[-2:]
    fixed = {
        "SOPClassUID": CT,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": "1.2.3",
        "Rows": height,
        "Columns": width,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": stored.dtype.itemsize * 8,
        "BitsStored": stored.dtype.itemsize * 8,
        "HighBit": stored.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
    }
    if stored.ndim == 3 and not colour:
        fixed["NumberOfFrames"] = len(stored)
    for name, value in (fixed | tags).items():
        if value is not None:
            setattr(data, name, value)
    data.PixelData = stored.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None, **header: Any) -> Path:
    """A volume (X, Y, Z) whose axes point right, front and up, unless ``affine`` says otherwise."""
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def write_hdf5(path: Path, attributes: dict[str, Any] | None = None, **arrays: np.ndarray) -> Path:
    """Data sets by keyword."""
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes or {})
        for name, array in arrays.items():
            file[name] = array
    return path


def ellipsoid(slices: int = 6, side: int = 24, shade: int = 1000) -> np.ndarray:
    """A volume (side, side, slices) int16, textured within an ellipse; its first and last slice are air."""
    across = np.linspace(-1, 1, side)
    inside = (across[:, None] ** 2 + across[None] ** 2 < 0.8)[..., None]
    texture = np.random.RandomState(shade).randint(shade // 2, shade, (side, side, slices))
    shown = np.ones(slices)
    shown[[0, -1]] = 0
    return (texture * inside * shown).astype(np.int16)

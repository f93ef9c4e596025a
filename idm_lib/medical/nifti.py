"""NIfTI volumes, with nibabel."""

from pathlib import Path

import numpy as np

from idm_lib.errors import InputError
from idm_lib.medical.grey import grey_volume
from idm_lib.medical.opening import load_package, reading


def read_nifti(path: str | Path, axis: int = -1) -> np.ndarray:
    """The slices of a volume, (S, H, W) uint16.

    The volume is turned, by right angles only, to the closest canonical orientation, so that its axes point to the
    patient's right, front and head. Slices across the last axis come from the feet up, and each is shown as DICOM
    viewers do: front on top, the patient's right on the left. Voxels are not resampled, so across another axis
    slices of thick-sliced volumes look squeezed.

    Args:
        path: of a ``.nii`` or ``.nii.gz``.
        axis: that slices lie across: 0 sagittal, 1 coronal, 2 or -1 axial.

    Raises:
        InputError: missing, broken, or not one volume of real numbers; a series of volumes (fMRI, diffusion) is
            refused, since its first volume need not look like the rest. Or nibabel is not installed.
    """
    nibabel, path = load_package("NIfTI"), Path(path)
    if axis not in (-1, 0, 1, 2):
        raise InputError(f"axis must be 0, 1 or 2, or -1 for the last; got {axis!r}.")
    with reading(path, "NIfTI"):
        image = nibabel.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
        if len(shape) < 3 or set(shape[3:]) - {1} or 0 in shape:
            raise InputError(
                f"{path} has the shape {shape}; expected one volume, of three axes; of a series, save one volume."
            )
        if dtype.kind not in "uif":
            raise InputError(f"{path} holds {dtype}; expected real numbers, one a voxel.")
        image = image.slicer[(..., *[0] * (len(shape) - 3))] if len(shape) > 3 else image
        volume = nibabel.as_closest_canonical(image)
        values = np.moveaxis(volume.get_fdata(dtype=np.float32), axis, 0)  # (S, A, B)
        low, high = (float(image.header[end]) if end in image.header else 0.0 for end in ("cal_min", "cal_max"))
    values = values[:, ::-1, ::-1].transpose(0, 2, 1)  # (S, H, W)
    return grey_volume(values, (low, high) if -np.inf < low < high < np.inf else None)

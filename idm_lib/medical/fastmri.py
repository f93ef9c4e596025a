"""The HDF5 files of the fastMRI data set (arXiv 1811.08839), with h5py: images, and the k-space that they come from.

=======================  =====================================================================================
``kspace``               (S, H, W) of one coil, or (S, coils, H, W); complex, centred
``reconstruction_rss``   (S, H, W): root sum of squares over the coils
``reconstruction_esc``   (S, H, W): the emulated single coil's image
``mask``                 (W,): 1 for every column of k-space that was sampled; in the test sets
=======================  =====================================================================================
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from idm_lib.errors import InputError
from idm_lib.medical.grey import grey_volume
from idm_lib.medical.opening import load_package, reading

_IMAGES = ("reconstruction_rss", "reconstruction_esc")


class KSpace(NamedTuple):
    """What a scanner gave of one slice.

    Args:
        samples: (coils, H, W) complex, centred; 0 where nothing was sampled.
        mask: (H, W) bool, True where something was.
    """

    samples: np.ndarray
    mask: np.ndarray


def read_fastmri(path: str | Path) -> np.ndarray:
    """The slices of a file's image, (S, H, W) uint16.

    The image is ``reconstruction_rss``, or ``reconstruction_esc``, or else the root sum of squares over the coils of
    the inverse Fourier transform of ``kspace``, in its whole field of view.

    Raises:
        InputError: missing, broken, or another layout; undersampled k-space without an image, of which a plain
            inverse transform would be no image of the patient. Or h5py is not installed.
    """
    path = Path(path)
    with reading(path, "HDF5"), _opened(path) as file:
        found = next((name for name in _IMAGES if name in file), None)
        if found:
            values = _array(path, file, found, "uif", (3,))[()].astype(np.float32)
        else:
            kspace = _array(path, file, "kspace", "c", (3, 4))
            if not _mask(path, file, kspace.shape).all():
                raise InputError(
                    f"{path} holds undersampled k-space and no image; recover it by idm reconstruct --measurements."
                )
            values = np.stack([combined(_coils(kspace[i])) for i in range(len(kspace))]).astype(np.float32)
    return grey_volume(values, None)


def read_kspace(path: str | Path, index: int | None = None) -> KSpace:
    """The k-space of one slice.

    Args:
        path: of a file with ``kspace``.
        index: of the slice, from 0; default: the middle one.

    Raises:
        InputError: missing, broken, or another layout; no such slice; or values that are not finite.
    """
    path = Path(path)
    with reading(path, "HDF5"), _opened(path) as file:
        kspace = _array(path, file, "kspace", "c", (3, 4))
        mask = _mask(path, file, kspace.shape)
        samples = _coils(kspace[check_index(path, index, len(kspace))])  # (coils, H, W)
    if not np.isfinite(samples).all():
        raise InputError(f"{path} has k-space that is not finite; get a whole copy of the file.")
    return KSpace(np.where(mask, samples, 0), mask)


def patient_of(path: Path) -> str:
    """The ``patient_id`` that a file has, or an empty text."""
    with reading(path, "HDF5"), _opened(path) as file:
        return str(file.attrs.get("patient_id", ""))


def check_index(path: Path, index: int | None, count: int) -> int:
    """The number of a slice if there is one of it; that of the middle one for None."""
    if index is not None and not 0 <= index < count:
        raise InputError(f"{path} has no slice {index}; expected 0 to {count - 1}.")
    return count // 2 if index is None else index


def combined(samples: np.ndarray) -> np.ndarray:
    """Centred k-space (coils, H, W) → the root sum of squares of the coils' images, (H, W)."""
    return np.sqrt((np.abs(coil_images(samples)) ** 2).sum(axis=0))


def coil_images(samples: np.ndarray) -> np.ndarray:
    """Centred k-space (coils, H, W) → each coil's image, (coils, H, W) complex; the transform is orthonormal."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(samples, axes=axes), norm="ortho"), axes=axes)


def _opened(path: Path) -> Any:
    h5py = load_package("HDF5")
    path.open("rb").close()  # h5py's own errors do not tell a missing file from a broken one
    return h5py.File(path, "r")


def _array(path: Path, file: Any, name: str, kinds: str, axes: tuple[int, ...]) -> Any:
    """A data set of the file, not yet read."""
    if name not in file:
        raise InputError(
            f"{path} has {', '.join(sorted(file)) or 'nothing'} in it; expected fastMRI's layout, with "
            f"{', '.join(_IMAGES)} or kspace."
        )
    array = file[name]
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", np.dtype("V"))
    if len(shape) not in axes or 0 in shape or dtype.kind not in kinds:
        wanted = "(slices, H, W)" if axes == (3,) else "(slices[, coils], H, W)"
        raise InputError(
            f"{path} has {name} of shape {shape}, {dtype}; expected {wanted}, "
            f"{'complex' if kinds == 'c' else 'real'} numbers."
        )
    return array


def _mask(path: Path, file: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Which of (H, W) frequencies were sampled: all of them, if the file has no mask."""
    if "mask" not in file:
        return np.ones(shape[-2:], dtype=bool)
    mask = np.asarray(file["mask"][()])
    if mask.shape not in (shape[-1:], shape[-2:]) or mask.dtype.kind not in "buif" or not np.isin(mask, (0, 1)).all():
        raise InputError(
            f"{path} has a mask of shape {mask.shape}, {mask.dtype}; expected {shape[-1:]}, one 0 or 1 a column."
        )
    return np.broadcast_to(mask.astype(bool), shape[-2:]).copy()


def _coils(samples: np.ndarray) -> np.ndarray:
    """One slice of k-space, (H, W) or (coils, H, W) → (coils, H, W) complex128."""
    return samples.reshape(-1, *samples.shape[-2:]).astype(np.complex128)

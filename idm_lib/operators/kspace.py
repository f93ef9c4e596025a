"""Raw k-space of a scanner, in fastMRI's HDF5, as measurements with the operator that took them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.medical.fastmri import coil_images, combined, read_kspace
from idm_lib.medical.names import kind_of, split_name
from idm_lib.operators.base import check_ratio
from idm_lib.operators.masks import cartesian_lines
from idm_lib.operators.mri import MRI
from idm_lib.operators.random import check_seed

_CENTRE = 0.08  # of the columns, when some are chosen here: fastMRI's share at fourfold acceleration
_FEWEST, _MOST = 4, 32  # columns of the centre to estimate from; more would bring in the image's own detail
_ITERATIONS = 10  # of the fit to the centre; more would fit the noise
_MARGIN = 1.2  # on the noise: taken too low, it lets A⁺ blow up; too high, it costs some detail
_WHITE = 99.9  # per cent of the pixels that are to lie below 1


class KSpaceMeasurements(NamedTuple):
    """What a scanner measured of one slice.

    Args:
        y: (1, M) float32, in units in which the image lies in about [0, 1].
        operator: with the mask and the coils' sensitivities.
        scale: y times this is the file's k-space.
    """

    y: Tensor
    operator: MRI
    scale: float


def load_kspace(
    path: str | Path,
    index: int | None = None,
    *,
    ratio: float | None = None,
    seed: int = 0,
    sensitivities: Any = None,
    complex_image: bool = False,
    noise_std: float | None = None,
) -> KSpaceMeasurements:
    """Read one slice's k-space, of one coil or many, as y and the :class:`MRI` operator that took it.

    A scanner's image is complex, but its phase is smooth, so its low frequencies give it away. From the centre of
    k-space, where no column is left out, follows an image of low resolution for each coil; s_c is that image over
    the root sum of squares of all coils'. So s_c has the image's phase in it, and x is real and not negative, which
    is what every method here expects; phase that is finer than the centre resolves is lost. With ``complex_image`` x
    keeps it, for ``A_dagger`` and methods of your own. At most 32 columns are taken for the centre, with a Hann
    window.

    The operator's ``noise_std`` is estimated too, from what no x explains of the centre: noise itself, and what the
    estimated s_c get wrong. Without it, A⁺ of undersampled k-space would blow both up.

    ``save_measurements("knee.npz", y, operator)`` keeps what comes of it.

    Args:
        path: of a file with ``kspace``, and ``mask`` if it is undersampled; ``knee.h5#12`` is slice 12.
        index: of the slice, from 0; default: that of the name, or the middle one.
        ratio: keep this share of the columns of fully sampled k-space only, chosen as
            :func:`~idm_lib.operators.masks.cartesian_lines` does, with 8 % of all in the centre.
        seed: of the choice.
        sensitivities: s_c, (coils, H, W) complex, in place of the estimated ones; for a real x, the phase of the
            image of low resolution is put to them.
        complex_image: x is (1, 2, H, W), real and imaginary part.
        noise_std: of every number in y, in the units of y, in place of the estimated one; see :class:`MRI`.

    Raises:
        InputError: a file that :func:`~idm_lib.medical.fastmri.read_kspace` refuses; no signal; ``ratio`` of what is
            undersampled already; too small a centre for what is to be estimated; or sensitivities that do not fit.
    """
    file, named = split_name(path)
    kind = kind_of(file)
    if kind not in ("HDF5", None):
        raise InputError(f"{file} is {kind} and holds no k-space; expected fastMRI's HDF5.")
    samples, mask = read_kspace(file, named if index is None else index)  # (coils, H, W), (H, W)
    if ratio is not None:
        if not mask.all():
            raise InputError(f"{file} is undersampled already, to {mask.mean():.0%} of k-space; leave out ratio.")
        mask = cartesian_lines(mask.shape, check_ratio(ratio), check_seed(seed), _CENTRE)
        samples = np.where(mask, samples, 0)
    scale = float(np.percentile(combined(samples), _WHITE))
    if not scale > 0:
        raise InputError(f"{file} has no signal in this slice; give another one.")
    samples = samples / scale
    coils = len(samples)
    maps = None if sensitivities is None else _checked(sensitivities, samples.shape)
    if not complex_image or (maps is None and coils > 1):
        maps = _seen(_low_resolution(samples, mask, file), maps)
    if noise_std is None:
        noise_std = 0.0 if maps is None else _unexplained(samples, mask, maps, complex_image, file)
    operator = MRI(
        mask.shape, coils=coils, complex_image=complex_image, mask=mask, sensitivities=maps, noise_std=noise_std
    )
    return KSpaceMeasurements(_numbers(samples, mask).float(), operator, scale)


def _checked(sensitivities: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(sensitivities)
    if array.shape != shape or array.dtype.kind not in "fc":
        raise InputError(
            f"sensitivities must have the shape of the slice's k-space, {shape}, (coils, H, W); "
            f"got {array.shape}, {array.dtype}."
        )
    return array.astype(np.complex128)


def _seen(low: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
    """The coils' sensitivities with the image's phase in them, (coils, H, W), from their images of low resolution."""
    if maps is not None:
        return maps * np.exp(1j * np.angle((maps.conj() * low).sum(axis=0)))
    return low / np.maximum(np.sqrt((np.abs(low) ** 2).sum(axis=0)), np.finfo(np.float64).tiny)


def _unexplained(samples: np.ndarray, mask: np.ndarray, maps: np.ndarray, complex_image: bool, file: Path) -> float:
    """σ per real number of y: what is left when x explains all that it can.

    It is seen where x is overdetermined, in the centre's columns: they hold 2·coils real numbers a frequency, of
    which x takes up one, or two if it is complex. What the sensitivities get wrong is there, where the image's energy
    is; of all other columns, the centre's outer rows tell how noisy they are.
    """
    columns = _hann(mask.shape[1], _centre_columns(mask, file)) > 0
    taken = (2 if complex_image else 1) / (2 * len(maps))
    if taken == 1:
        return 0.0
    strip = np.broadcast_to(columns, mask.shape)
    settings = {"coils": len(maps), "complex_image": complex_image, "sensitivities": maps}
    part = MRI(mask.shape, mask=strip, max_iterations=_ITERATIONS, **settings)
    y = _numbers(samples, strip)
    left = (part.A(part.A_dagger(y)) - y).reshape(len(maps), len(mask), -1)  # (coils, H, columns·2)
    rows = left.square().mean(dim=(0, 2)) / (1 - taken)  # (H,)
    quarter = len(mask) // 4
    noise = torch.cat([rows[:quarter], rows[len(mask) - quarter :]]).mean() if quarter else rows.mean()
    share = strip.sum() / mask.sum()
    return _MARGIN * float((share * rows.mean() + (1 - share) * noise).sqrt())


def _numbers(samples: np.ndarray, mask: np.ndarray) -> Tensor:
    """Samples (coils, H, W) at the mask as :class:`MRI` has them: (1, coils·K·2) float64."""
    return torch.view_as_real(torch.from_numpy(samples[:, mask])).reshape(1, -1)


def _low_resolution(samples: np.ndarray, mask: np.ndarray, file: Path) -> np.ndarray:
    """The coils' images from the centre of k-space alone, (coils, H, W)."""
    height, width = mask.shape
    columns = _centre_columns(mask, file)
    window = _hann(height, round(columns * height / width))[:, None] * _hann(
        width, columns
    )  # one resolution for both
    return coil_images(samples * window)


def _centre_columns(mask: np.ndarray, file: Path) -> int:
    """How many columns round the middle of k-space are sampled whole, as many on either side of it.

    Raises:
        InputError: too few.
    """
    whole = mask.all(axis=0)
    middle = len(whole) // 2
    reach = 0
    while middle + reach < len(whole) and whole[middle - reach] and whole[middle + reach]:
        reach += 1
    columns = max(0, 2 * reach - 1)
    if columns < _FEWEST:
        raise InputError(
            f"{file} has {columns} columns without gaps in the middle of k-space; expected at least {_FEWEST}, to "
            "estimate from them what each coil sees, and the noise."
        )
    return min(columns, _MOST)


def _hann(length: int, inside: int) -> np.ndarray:
    """A Hann window, (length,), above 0 for about ``inside`` numbers round the middle of centred k-space."""
    away = np.abs(np.arange(length) - length // 2) / (inside / 2 + 0.5)
    return np.where(away < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(away, 1)), 0)

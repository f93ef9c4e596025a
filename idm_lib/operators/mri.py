"""Magnetic resonance imaging: some frequencies of the image, through one receive coil or many."""

import math
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_ratio, check_whole
from idm_lib.operators.conjugate_gradients import cg_pseudo_inverse, check_cg
from idm_lib.operators.image_operator import ImageOperator
from idm_lib.operators.masks import array_of, cartesian_lines, check_mask, chosen_pattern, radial_spokes
from idm_lib.operators.random import check_seed


class MRI(ImageOperator):
    """y_c = P F (s_c · x): for each coil c, the image in its light, the centred orthonormal spectrum, masked.

    Complex numbers come as pairs of real ones, so that y is real and A is linear over the reals: y is
    (B, coils, K, 2), flattened, with K frequencies in the reading order of centred k-space. Noise is added to
    every real number.

    One coil: A⁺ is exact. For complex images the rows are orthonormal and A⁺ = Aᵀ. Of a real image frequencies k and
    −k tell the same, so AᵀA is a filter that weighs k by half for each of the two that the mask holds; A⁺ divides by
    that. Many coils: A⁺ by conjugate gradients in float64
    (:func:`~idm_lib.operators.conjugate_gradients.cg_pseudo_inverse`).

    Args:
        image_size: (H, W).
        ratio: γ in (0, 1], the share of frequencies that is sampled, 1 over the acceleration; not with ``mask``.
        pattern: ``cartesian`` columns, dense in the middle, or ``radial`` spokes.
        seed: of the pattern.
        centre: share of the columns that is sampled without gaps in the middle, in (0, 1]; for ``cartesian``.
        coils: how many; sensitivities of smooth, made-up coils round the image, unless given.
        complex_image: x is (B, 2, H, W), real and imaginary part, rather than (B, 1, H, W).
        mask: (H, W) of centred k-space, 1 where sampled, in place of ratio, pattern and seed.
        sensitivities: s_c, (coils, H, W), complex, in place of made-up ones. Their squares had best sum to about 1.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.
        tolerance, max_iterations: of the conjugate gradients. With 1e-3, A A⁺ A x is A x to 60 dB, unless the
            iterations run out first; what is then unresolved is what A barely sees.

    Raises:
        InputError: neither ratio nor mask, or both; or values outside what is said above.
    """

    array_arguments: ClassVar[tuple[str, ...]] = ("mask", "sensitivities")

    def __init__(
        self,
        image_size: tuple[int, int],
        ratio: float | None = None,
        pattern: str = "cartesian",
        seed: int = 0,
        centre: float = 0.08,
        coils: int = 1,
        complex_image: bool = False,
        mask: Any = None,
        sensitivities: Any = None,
        noise_std: float = 0.0,
        tolerance: float = 1e-3,
        max_iterations: int = 100,
    ) -> None:
        super().__init__(image_size, noise_std)
        if not 0 < centre <= 1:
            raise InputError(f"centre must lie in (0, 1], as 0.08 of the columns; got {centre!r}.")
        patterns = {"cartesian": partial(cartesian_lines, centre=centre), "radial": radial_spokes}
        draw = chosen_pattern(pattern, patterns)
        if (ratio is None) == (mask is None):
            raise InputError("MRI needs a ratio, as 0.25 for fourfold acceleration, or a mask, and not both.")
        if not isinstance(complex_image, bool):
            raise InputError(f"complex_image must be True or False; got {complex_image!r}.")
        check_cg(tolerance, max_iterations)
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.ratio = None if ratio is None else check_ratio(ratio)
        self.pattern, self.seed, self.centre = pattern, check_seed(seed), centre
        self.coils, self.complex_image = check_whole(coils, "coils", 1), complex_image
        self.channels = 2 if complex_image else 1
        self.mask = None if mask is None else check_mask(mask, self.image_size)
        self.sensitivities = None if sensitivities is None else self._check_sensitivities(sensitivities)
        self._prepare(draw(self.image_size, self.ratio, self.seed) if self.mask is None else self.mask)

    def _prepare(self, mask: np.ndarray) -> None:
        places = np.fft.fftshift(np.arange(mask.size).reshape(mask.shape))  # where torch.fft puts centred k-space
        self._tables["sampled"] = torch.from_numpy(places[mask])  # (K,)
        plain = np.fft.ifftshift(mask)
        opposite = np.roll(plain[::-1, ::-1], (1, 1), (0, 1))  # the mask at −k
        twice = (plain.astype(np.float64) + opposite).ravel()[
            places[mask]
        ]  # (K,): 2 where the mask holds both, or k = −k
        self._tables["weights"] = torch.from_numpy(np.stack([2 / twice] * 2, -1).ravel())  # (K·2,)
        if self.sensitivities is not None:
            self._tables["coils"] = torch.from_numpy(self.sensitivities)
        elif self.coils > 1:
            self._tables["coils"] = torch.from_numpy(smooth_coils(self.coils, self.image_size))  # (coils, H, W)

    def _check_sensitivities(self, sensitivities: Any) -> np.ndarray:
        array = array_of(sensitivities, "sensitivities")
        wanted = (self.coils, *self.image_size)
        if array.shape != wanted or array.dtype.kind not in "fc" or not np.isfinite(array).all():
            raise InputError(
                f"sensitivities must be finite and of shape {wanted}, (coils, H, W); "
                f"got {array.shape}, {array.dtype}; set coils too."
            )
        return array.astype(np.complex128)

    @property
    def measurements(self) -> int:
        """M = 2·coils·K real numbers."""
        return 2 * self.coils * len(self._tables["sampled"])

    @property
    def true_ratio(self) -> float:
        """K / (H·W): the share of frequencies that is sampled."""
        return len(self._tables["sampled"]) / math.prod(self.image_size)

    @property
    def orthonormal(self) -> bool:
        """With one coil and complex images; of a real one, frequencies k and −k tell the same."""
        return self.complex_image and "coils" not in self._tables

    def _measure(self, x: Tensor) -> Tensor:
        image = torch.complex(x[:, :1], x[:, 1:] if self.complex_image else torch.zeros_like(x))  # (B, 1, H, W)
        if "coils" in self._tables:
            image = image * self._table("coils", x)  # (B, coils, H, W)
        spectrum = torch.fft.fft2(torch.fft.ifftshift(image, dim=(-2, -1)), norm="ortho").flatten(2)
        sampled = spectrum[..., self._table("sampled", x)]  # (B, coils, K)
        return torch.view_as_real(sampled).flatten(1)  # (B, coils·K·2)

    def _adjoint(self, y: Tensor) -> Tensor:
        pairs = y.reshape(len(y), self.coils, -1, 2)
        sampled = torch.complex(pairs[..., 0], pairs[..., 1])  # (B, coils, K)
        spectrum = sampled.new_zeros(len(y), self.coils, math.prod(self.image_size))
        spectrum = spectrum.index_copy(2, self._table("sampled", y), sampled).reshape(len(y), -1, *self.image_size)
        image = torch.fft.fftshift(torch.fft.ifft2(spectrum, norm="ortho"), dim=(-2, -1))  # (B, coils, H, W)
        if "coils" in self._tables:
            image = (image * self._table("coils", y).conj()).sum(dim=1, keepdim=True)  # (B, 1, H, W)
        return torch.cat([image.real, image.imag], dim=1) if self.complex_image else image.real

    def _dagger(self, y: Tensor) -> Tensor:
        if "coils" in self._tables:
            limits = (self.tolerance, self.max_iterations, self.noise_std)
            return cg_pseudo_inverse(self, y.double(), *limits, strict=False).to(y.dtype)
        return self._adjoint(y if self.complex_image else y * self._table("weights", y))


def smooth_coils(coils: int, size: tuple[int, int]) -> np.ndarray:
    """Sensitivities of ``coils`` loops evenly round the image, (coils, H, W) complex128, squares summing to 1.

    Each falls off as a Gaussian from a point outside the image, with a phase that turns slowly along the way.
    """
    down, right = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in size], indexing="ij")  # each in (−½, ½)
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    along, across = down * np.sin(angles) + right * np.cos(angles), right * np.sin(angles) - down * np.cos(angles)
    maps = np.exp(-((along - 0.6) ** 2 + across**2) / 0.4 + 1j * (angles + np.pi * along / 2))  # (coils, H, W)
    return maps / np.sqrt((np.abs(maps) ** 2).sum(axis=0))

"""Super-resolution: the image is seen once blurred against aliasing and thinned out."""

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_whole
from idm_lib.operators.image_operator import ImageOperator


def _box(distance: np.ndarray) -> np.ndarray:
    return (np.abs(distance) <= 0.5 + 1e-9).astype(np.float64)


def _bicubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = −½ (IEEE Trans. ASSP 29(6), 1981)."""
    d = np.abs(distance)
    inner, outer = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))


KERNELS = {"box": _box, "bicubic": _bicubic}


class SuperResolution(ImageOperator):
    """y = D_h X D_wᵀ: each axis is filtered and thinned by a matrix of its own.

    A is the Kronecker product of D_h and D_w, so A⁺ is that of their pseudo-inverses: exact, at the price of one
    small factorisation an axis. The rows of each matrix sum to 1, at the borders too: a constant stays one.

    Args:
        image_size: (H, W), multiples of ``factor``.
        factor: how many pixels along an axis become one, at least 2.
        kernel: ``bicubic``, stretched by the factor, as imaging libraries shrink with anti-aliasing; or ``box``, the
            average, as a coarser sensor sees.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.

    Shapes: y (B, H·W/factor²), the small image in reading order.

    Raises:
        InputError: a factor that does not divide the sides, or an unknown kernel.
    """

    def __init__(
        self, image_size: tuple[int, int], factor: int, kernel: str = "bicubic", noise_std: float = 0.0
    ) -> None:
        super().__init__(image_size, noise_std)
        self.factor = check_whole(factor, "factor", 2)
        if kernel not in KERNELS:
            raise InputError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}.")
        self.kernel = kernel
        if any(side % self.factor for side in self.image_size):
            raise InputError(
                f"image_size must be multiples of the factor {self.factor}; got {self.image_size}; crop the image."
            )
        for axis, side in zip("hw", self.image_size, strict=True):
            shrink = shrinking_matrix(side, self.factor, kernel)  # (n/f, n)
            q, r = np.linalg.qr(shrink.T)  # D = RᵀQᵀ with independent rows, so D⁺ = Q R⁻ᵀ
            self._tables[f"shrink_{axis}"] = torch.from_numpy(shrink)
            self._tables[f"grow_{axis}"] = torch.from_numpy(np.ascontiguousarray(np.linalg.solve(r, q.T).T))

    @property
    def measurements(self) -> int:
        """M = H·W/factor²."""
        return (self.image_size[0] // self.factor) * (self.image_size[1] // self.factor)

    @property
    def true_ratio(self) -> float:
        """M / (H·W) = 1/factor²."""
        return 1 / self.factor**2

    def _measure(self, x: Tensor) -> Tensor:
        small = self._table("shrink_h", x) @ x[:, 0] @ self._table("shrink_w", x).mT  # (B, H/f, W/f)
        return small.flatten(1)

    def _adjoint(self, y: Tensor) -> Tensor:
        small = self._small(y)
        return (self._table("shrink_h", y).mT @ small @ self._table("shrink_w", y))[:, None]  # (B, 1, H, W)

    def _dagger(self, y: Tensor) -> Tensor:
        small = self._small(y)
        return (self._table("grow_h", y) @ small @ self._table("grow_w", y).mT)[:, None]  # (B, 1, H, W)

    def _small(self, y: Tensor) -> Tensor:
        return y.reshape(len(y), self.image_size[0] // self.factor, self.image_size[1] // self.factor)


def shrinking_matrix(side: int, factor: int, kernel: str) -> np.ndarray:
    """The matrix that shrinks one axis, (side/factor, side): a stretched kernel at each new pixel's centre."""
    centres = (np.arange(side // factor) + 0.5) * factor - 0.5  # of the new pixels, in old ones
    weights = KERNELS[kernel]((np.arange(side) - centres[:, None]) / factor)
    return weights / weights.sum(axis=1, keepdims=True)

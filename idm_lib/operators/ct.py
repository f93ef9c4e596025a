"""Computed tomography with few views: line integrals of the image along parallel beams."""

import math
import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_whole, compute_dtype
from idm_lib.operators.conjugate_gradients import cg_pseudo_inverse, check_cg
from idm_lib.operators.image_operator import ImageOperator


class ParallelBeamCT(ImageOperator):
    """y = s·R x, R the Radon transform of the image as made of square pixels, averaged over each detector's width.

    View v looks along the direction at angle πv/views, through pixels of side 1 onto a row of detectors of width 1.
    A pixel's shadow is a trapezium, and each detector gets the share of it that falls onto it: exact for an image
    of square pixels, and at most three numbers a pixel and view. A and Aᵀ are sparse matrices of the same numbers, so
    the adjoint is exact. A⁺ by conjugate gradients in float64
    (:func:`~idm_lib.operators.conjugate_gradients.cg_pseudo_inverse`).

    Args:
        image_size: (H, W).
        views: how many angles, evenly over half a turn.
        detectors: how many a view, centred; by default enough to see the image whole.
        normalised: choose s so that ‖A‖ = 1, as networks like it; otherwise s = 1 and y is in pixel lengths. See
            ``scale``.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.
        tolerance, max_iterations: of the conjugate gradients. With 1e-3, A A⁺ A x is A x to 60 dB, unless the
            iterations run out first; what is then unresolved is what A barely sees.

    Shapes: y (B, views·detectors), view by view.

    Raises:
        InputError: numbers below 1.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        views: int,
        detectors: int | None = None,
        normalised: bool = True,
        noise_std: float = 0.0,
        tolerance: float = 1e-3,
        max_iterations: int = 100,
    ) -> None:
        super().__init__(image_size, noise_std)
        self.views = check_whole(views, "views", 1)
        whole = math.ceil(math.hypot(*self.image_size))
        self.detectors = check_whole(whole if detectors is None else detectors, "detectors", 1)
        if not isinstance(normalised, bool):
            raise InputError(f"normalised must be True or False; got {normalised!r}.")
        check_cg(tolerance, max_iterations)
        self.normalised, self.tolerance, self.max_iterations = normalised, tolerance, max_iterations
        weights = shadows(self.image_size, self.views, self.detectors)
        #: s: what line integrals in pixel lengths are multiplied with.
        self.scale = 1 / _norm(weights) if normalised else 1.0
        matrix = weights * self.scale
        self._matrices = {"rays": matrix, "back": matrix.T.tocsr()}  # (M, HW) and (HW, M), the same numbers

    @property
    def measurements(self) -> int:
        """M = views·detectors; may exceed H·W."""
        return self.views * self.detectors

    def _measure(self, x: Tensor) -> Tensor:
        return _Product.apply(x.flatten(1), self._sparse("rays", x), self._sparse("back", x))  # (B, M)

    def _adjoint(self, y: Tensor) -> Tensor:
        image = _Product.apply(y, self._sparse("back", y), self._sparse("rays", y))  # (B, HW)
        return image.reshape(len(y), 1, *self.image_size)

    def _dagger(self, y: Tensor) -> Tensor:
        limits = (self.tolerance, self.max_iterations, self.noise_std)
        return cg_pseudo_inverse(self, y.double(), *limits, strict=False).to(y.dtype)

    def _sparse(self, name: str, like: Tensor) -> Tensor:
        """A matrix on the operator's device, in the precision of ``like``."""
        key = (name, compute_dtype(like))
        if key not in self._ready:
            matrix = self._matrices[name]
            parts = [torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data)]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Sparse CSR", category=UserWarning)  # "beta", for years
                self._ready[key] = torch.sparse_csr_tensor(
                    *parts, matrix.shape, dtype=key[1], device=self._device, check_invariants=False
                )
        return self._ready[key]


class _Product(torch.autograd.Function):
    """x Sᵀ for a sparse S, row by row; its gradient by Sᵀ, so that the two are each other's adjoint to the bit."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.matrices = (matrix, transpose)
        return (matrix @ x.mT).mT.contiguous()  # (B, n) → (B, m)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        matrix, transpose = ctx.matrices
        return _Product.apply(gradient, transpose, matrix), None, None


def _norm(matrix: csr_array) -> float:
    """The largest singular value by power iteration; without negative numbers, all ones are a good start."""
    x, square = np.ones(matrix.shape[1]), 0.0
    for _ in range(100):
        x = matrix.T @ (matrix @ (x / np.linalg.norm(x)))
        before, square = square, float(np.linalg.norm(x))
        if abs(square - before) <= 1e-9 * square:
            break
    return math.sqrt(square)


def shadows(size: tuple[int, int], views: int, detectors: int) -> csr_array:
    """The share of each pixel's area that each detector sees in each view, (views·detectors, HW), float64."""
    down, right = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij")  # pixels' centres
    pixels, places, shares = np.arange(down.size), [], []
    for view in range(views):
        angle = math.pi * view / views
        cos, sin = math.cos(angle), math.sin(angle)
        centre = (right * cos + down * sin).ravel() + detectors / 2  # (HW,), detector d covers [d, d + 1]
        first = np.floor(centre - (abs(cos) + abs(sin)) / 2).astype(np.int64)
        edges = [_area_below(first + i - centre, abs(cos), abs(sin)) for i in range(4)]
        for i in range(3):
            inside = (first + i >= 0) & (first + i < detectors)
            places.append((view * detectors + first[inside] + i, pixels[inside]))
            shares.append((edges[i + 1] - edges[i])[inside])
    where = tuple(np.concatenate(part) for part in zip(*places, strict=True))
    return csr_array((np.concatenate(shares), where), shape=(views * detectors, down.size))


def _area_below(t: np.ndarray, a: float, b: float) -> np.ndarray:
    """How much of a unit square's shadow lies below t from its centre; a box of width a, spread by one of b.

    Its density is a trapezium, so the area below t is made of parabolas at the flanks and a line between.
    """
    wide, narrow = max(a, b), min(a, b)
    if narrow < 1e-9:  # seen face on: a box
        return np.clip(t / wide + 0.5, 0, 1)
    outer, inner = (wide + narrow) / 2, (wide - narrow) / 2
    flank = np.clip(outer - np.abs(t), 0, None) ** 2 / (2 * wide * narrow)
    beyond = np.where(np.abs(t) >= inner, flank, 0.5 - np.abs(t) / wide)  # the area beyond |t|
    return np.where(t > 0, 1 - beyond, beyond)

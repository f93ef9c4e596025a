"""Computed tomography with few views: line integrals of the image along parallel beams."""

import math

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_whole
from idm_lib.operators.conjugate_gradients import cg_pseudo_inverse, check_cg
from idm_lib.operators.image_operator import ImageOperator


class ParallelBeamCT(ImageOperator):
    """y = s·R x, R the Radon transform of the image as made of square pixels, averaged over each detector's width.

    View v looks along the direction at angle πv/views, through pixels of side 1 onto a row of detectors of width 1.
    A pixel's shadow is a trapezium, and each detector gets the share of it that falls onto it: exact for an image
    of square pixels, and at most three numbers a pixel and view. A and Aᵀ scatter and gather with the same numbers,
    so the adjoint is exact. A⁺ by conjugate gradients in float64
    (:func:`~idm_lib.operators.conjugate_gradients.cg_pseudo_inverse`).

    Args:
        image_size: (H, W).
        views: how many angles, evenly over half a turn.
        detectors: how many a view, centred; by default enough to see the image whole.
        normalised: choose s so that ‖A‖ = 1, as networks like it; otherwise s = 1 and y is in pixel lengths. See
            ``scale``.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.
        tolerance, max_iterations: of the conjugate gradients; 1e-3 means that A A⁺ A x is A x to 60 dB.

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
        max_iterations: int = 1000,
    ) -> None:
        super().__init__(image_size, noise_std)
        self.views = check_whole(views, "views", 1)
        whole = math.ceil(math.hypot(*self.image_size))
        self.detectors = check_whole(whole if detectors is None else detectors, "detectors", 1)
        if not isinstance(normalised, bool):
            raise InputError(f"normalised must be True or False; got {normalised!r}.")
        check_cg(tolerance, max_iterations)
        self.normalised, self.tolerance, self.max_iterations = normalised, tolerance, max_iterations
        places, weights = shadows(self.image_size, self.views, self.detectors)
        self._tables["places"] = torch.from_numpy(places)  # (3·views·HW,)
        self._tables["weights"] = torch.from_numpy(weights)  # (3·views, HW)
        #: s: what line integrals in pixel lengths are multiplied with.
        self.scale = 1 / self._norm() if normalised else 1.0
        self._tables["weights"] *= self.scale
        self._ready = {}

    @property
    def measurements(self) -> int:
        """M = views·detectors; may exceed H·W."""
        return self.views * self.detectors

    def _measure(self, x: Tensor) -> Tensor:
        shares = x.flatten(2) * self._table("weights", x)  # (B, 3·views, HW)
        sinogram = x.new_zeros(len(x), self.measurements)
        return sinogram.index_add(1, self._table("places", x), shares.flatten(1))

    def _adjoint(self, y: Tensor) -> Tensor:
        weights = self._table("weights", y)  # (3·views, HW)
        seen = y[:, self._table("places", y)].reshape(len(y), *weights.shape)
        return (seen * weights).sum(dim=1).reshape(len(y), 1, *self.image_size)

    def _dagger(self, y: Tensor) -> Tensor:
        return cg_pseudo_inverse(self, y.double(), self.tolerance, self.max_iterations, self.noise_std).to(y.dtype)

    def _norm(self) -> float:
        """‖R‖ by power iteration; R has no negative number, so all ones are a good start."""
        x = torch.ones(1, 1, *self.image_size, dtype=torch.float64)
        square = 0.0
        for _ in range(100):
            x = self._adjoint(self._measure(x / x.norm()))
            before, square = square, float(x.norm())
            if abs(square - before) <= 1e-9 * square:
                break
        return math.sqrt(square)


def shadows(size: tuple[int, int], views: int, detectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's shadow falls in each view, and how much of it.

    Returns:
        places: positions in the sinogram, (3·views·HW,) int64, in the order of the weights.
        weights: the share of the pixel's area over each of three neighbouring detectors, (3·views, HW) float64;
            0 beside the row of detectors.
    """
    down, right = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij")  # pixels' centres
    places, weights = [], []
    for view in range(views):
        angle = math.pi * view / views
        cos, sin = math.cos(angle), math.sin(angle)
        centre = (right * cos + down * sin).ravel() + detectors / 2  # (HW,), detector d covers [d, d + 1]
        reach = (abs(cos) + abs(sin)) / 2
        first = np.floor(centre - reach).astype(np.int64)
        edges = [_area_below(first + i - centre, abs(cos), abs(sin)) for i in range(4)]
        for i in range(3):
            detector = first + i
            inside = (detector >= 0) & (detector < detectors)
            places.append(view * detectors + np.where(inside, detector, 0))
            weights.append(np.where(inside, edges[i + 1] - edges[i], 0.0))
    return np.concatenate(places), np.stack(weights)


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

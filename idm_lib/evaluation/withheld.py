"""How good a reconstruction is, without knowing the image: ask the measurements that it was not made from."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import chi2, norm
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators import Subset


@dataclass(frozen=True)
class PredictedQuality:
    """An estimate of PSNR with its interval, all in dB.

    Args:
        psnr: the estimate.
        low, high: the interval's ends.
        confidence: the share of cases that the interval should hold, as 0.95.
        samples: how many measurements were held back.
    """

    psnr: float
    low: float
    high: float
    confidence: float
    samples: int

    def __str__(self) -> str:
        half = (self.high - self.low) / 2
        return f"{self.psnr:.1f} ± {half:.1f} dB"


def predict_quality(
    estimate: Tensor,
    y_kept: Tensor,
    kept: Subset,
    y_held: Tensor,
    held: Subset,
    confidence: float = 0.95,
    fit: float = 1.0,
) -> list[PredictedQuality]:
    """Estimate each image's error from measurements that were held back.

    The error e = x̂ − x splits into what the kept rows see and the rest, in their null space, of dimension
    HW − M_kept. Without noise the first part is known exactly, ‖y − A x̂‖². With noise of variance σ² it is
    ‖y − A x̂‖² + (2·fit − 1)·M_kept·σ² on average, fit = div_y(A x̂)/M_kept: how far the estimate follows the
    noise (Stein, Ann. Statist. 9(6), 1981). As to the rest, the held-back rows are random unit vectors of that null
    space, drawn without regard to x̂, so the mean of (y_h − A_h x̂)² times the dimension is an unbiased estimate of its
    ‖·‖². One direction is taken apart: an error in the mean brightness looks the same in every block, and all blocks
    share their rows, so its samples are not independent. But it is one number, found by least squares, and how
    much of it lies in the null space is known. The other samples are near Gaussian, so their sum of squares over its
    expectation is χ² with K − 1 degrees of freedom; that and the offset's own spread give the interval.

    Args:
        estimate: x̂, (B, 1, H, W), made from ``y_kept`` alone, as it came from the solver: clamping is the
            caller's affair.
        y_kept, kept: the measurements and operator that it was made from, (B, M_kept).
        y_held, held: those held back, (B, K), from :func:`~idm_lib.operators.hold_back`.
        confidence: of the interval, in (0, 1).
        fit: plays a part with noise only: 1 for an estimate that explains ``y_kept`` exactly, as those of all
            solvers here do; 0 for one that owes nothing to it.

    Returns:
        One :class:`PredictedQuality` for each image; at most 120 dB, where float32 ends.

    Raises:
        InputError: confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), as 0.95; got {confidence!r}.")
    pixels, samples = math.prod(estimate.shape[1:]), y_held.shape[1]
    noise = kept.noise_std**2
    seen = (y_kept - kept.A(estimate)).square().sum(dim=1).double()  # (B,)
    seen = (seen + (2 * fit - 1) * noise * y_kept.shape[1]).clamp_min(0)
    ones = torch.ones_like(estimate)  # one for each image: an operator may have a permutation for each
    flat = held.A(ones).double()  # (B, K): what a wrong mean brightness would look like
    flat_energy = flat.square().sum(dim=1)  # (B,)
    flat_unseen = (pixels - kept.A(ones).double().square().sum(dim=1)).clamp_min(0)  # (B,), of ones in the null space
    residual = (y_held - held.A(estimate)).double()  # (B, K)
    offset = (residual * flat).sum(dim=1) / flat_energy  # (B,), least squares
    rest = (residual - offset[:, None] * flat).square().sum(dim=1) / max(1, samples - 1)  # (B,), of which noise: σ²
    spread = rest / flat_energy  # variance of the offset
    tail = (1 - confidence) / 2
    width = float(norm.ppf(1 - tail))
    degrees = max(1, samples - 1)
    bounds = ((1.0, 0.0), (degrees / chi2.ppf(tail, degrees), width), (degrees / chi2.ppf(1 - tail, degrees), -width))
    dimension = max(0, pixels - y_kept.shape[1] - 1)
    mses = []
    for factor, deviations in bounds:
        brightness = (offset.abs() + deviations * spread.sqrt()).clamp_min(0).square()
        if deviations == 0:
            brightness = (offset.square() - spread).clamp_min(
                0
            )  # the square of an estimate is too large by its variance
        unseen = flat_unseen * brightness + dimension * (factor * rest - noise).clamp_min(0)
        mses.append((seen + unseen) / pixels)
    centre, low, high = (-10 * torch.stack(mses).clamp_min(1e-12).log10()).tolist()
    return [PredictedQuality(*values, confidence, samples) for values in zip(centre, low, high, strict=True)]


def split_measurements(y: Tensor, kept: Subset, held: Subset) -> tuple[Tensor, Tensor]:
    """The part of y, (B, M), that each of the two subsets measures: (B, M_kept) and (B, K)."""
    return y[:, kept.indices], y[:, held.indices]


def reveal(estimate: Tensor, y_held: Tensor, held: Any) -> Tensor:
    """Use the held-back measurements after all: one projection, x̂ + A_hᵀ(y_h − A_h x̂), (B, 1, H, W)."""
    return estimate + held.A_dagger(y_held - held.A(estimate))

"""Where the chain begins: a first image from wavelet shrinkage alone, before any network is called.

The network's first calls would otherwise find what a few dozen additions find as well: where it is light and where
it is dark. The iterations are OAMP's (Ma and Ping, IEEE Access 5, 2017) with the oldest of denoisers in the place of
the network, so that the chain receives what it expects: an estimate whose error the measurements can still measure.
"""

import math
from typing import Any

import torch
from torch import Tensor

from idm_lib.diffusion.range_null import trusted_step
from idm_lib.diffusion.state_evolution import effective_variance, mse_of_residual

ITERATIONS = 6  # after which, at every ratio, next to nothing changes any more
LEVELS = 5  # the coarsest wavelets are 2⁵ pixels wide


def wavelet_start(y: Tensor, op: Any, grey: Tensor, ratio: float) -> Tensor:
    """Estimate the image from its measurements by wavelet shrinkage in place of a network.

    Args:
        y: measurements, (B, M).
        op: their operator, with ``A`` and ``A_adjoint``.
        grey: an estimate to begin with that owes nothing to the measurements, (B, 1, H, W).
        ratio: γ.

    Returns:
        x̂, (B, 1, H, W), its error free of what the shrinkage merely copied; differentiable in y.
    """
    estimate = grey
    for _ in range(ITERATIONS):
        estimate = wavelet_iteration(estimate, y, op, ratio)
    return estimate


def wavelet_iteration(estimate: Tensor, y: Tensor, op: Any, ratio: float | Tensor) -> Tensor:
    """One iteration of :func:`wavelet_start`: from an estimate, (B, 1, H, W), to the next."""
    residual = y - op.A(estimate)  # (B, M)
    mse, noise_std = mse_of_residual(residual, op), getattr(op, "noise_std", 0.0)  # (B,)
    variance = effective_variance(mse, ratio, noise_std).to(estimate.dtype)  # (B,)
    r = estimate + op.A_adjoint(residual).to(estimate.dtype) / ratio  # (B, 1, H, W)
    shrunk, slope = haar_shrink(r, variance)
    slope = slope.clamp(0.0, 0.95)[:, None, None, None]
    return (shrunk - slope * r) / (1 - slope)


def shrinkage_start(y: Tensor, op: Any, grey: Tensor, ladder: tuple[float, float] = (0.15, 0.02)) -> Tensor:
    """Estimate the image by wavelet shrinkage where the operator's rows do not look at random.

    Plug-and-play: meet the measurements, shrink at a level that falls by one factor from step to step, repeat. There
    is nothing to measure the level by, so it is given.

    Args:
        y: measurements, (B, M).
        op: their operator, with ``A`` and ``A_dagger``.
        grey: an image to begin with, (B, 1, H, W).
        ladder: first and last noise level.

    Returns:
        x̂, (B, 1, H, W); differentiable in y.
    """
    first, last = map(math.log, ladder)
    estimate = grey
    for i in range(ITERATIONS):
        level = math.exp(first + (last - first) * i / (ITERATIONS - 1))
        r = trusted_step(estimate, y, op).to(grey.dtype)  # (B, 1, H, W)
        variance = torch.full_like(r[:, 0, 0, 0], level**2 + getattr(op, "noise_std", 0.0) ** 2)  # (B,)
        estimate, _ = haar_shrink(r, variance)
    return estimate


def haar_shrink(noisy: Tensor, variance: Tensor, strength: float = 1.2) -> tuple[Tensor, Tensor]:
    """Denoise by soft thresholds on the Haar wavelet coefficients of every shift of the image.

    The undecimated transform is a Parseval frame: the noise in a coefficient of level j has variance τ²/4ʲ, and the
    adjoint is the inverse. Each band's threshold is the noise's variance over the signal's standard deviation, which
    is near the best one for natural images (BayesShrink: Chang, Yu and Vetterli, IEEE TIP 9(9), 2000).

    Args:
        noisy: r, (B, 1, H, W), any size; it is taken as periodic.
        variance: τ², (B,).
        strength: a factor on every threshold.

    Returns:
        The denoised image, (B, 1, H, W), and its mean slope div D / n for each image, thresholds held, (B,): the
        share of the frame's energy whose coefficients were kept (nearly so if the image is narrower than 32 pixels,
        where the coarsest wavelets meet themselves).
    """
    low, stack = noisy, []
    for level in range(LEVELS):
        low, *bands = _split(low, 2**level)
        stack.append(bands)
    energy = 0.25**LEVELS
    slope = torch.full_like(variance, energy)  # the coarsest averages are kept as they are
    for level in reversed(range(LEVELS)):
        energy = 0.25 ** (level + 1)  # the squared norm of this level's frame vectors
        noise = (variance * energy)[:, None, None, None]
        kept = []
        for band in stack[level]:
            signal = (band.square().mean(dim=(1, 2, 3), keepdim=True) - noise).clamp_min(1e-12)
            threshold = strength * noise / signal.sqrt()  # (B, 1, 1, 1)
            slope = slope + energy * (band.abs() >= threshold).to(slope.dtype).mean(dim=(1, 2, 3))
            kept.append(band - band.clamp(-threshold, threshold))
        low = _merge(low, *kept, 2**level)
    return low, slope


def _split(h: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Averages and differences of neighbours ``step`` apart along both axes, each (B, 1, H, W)."""
    beside = h.roll(-step, 3)
    mean, change = (h + beside) / 2, (h - beside) / 2
    mean_below, change_below = mean.roll(-step, 2), change.roll(-step, 2)
    return (
        (mean + mean_below) / 2,
        (mean - mean_below) / 2,
        (change + change_below) / 2,
        (change - change_below) / 2,
    )


def _merge(low: Tensor, vertical: Tensor, horizontal: Tensor, diagonal: Tensor, step: int) -> Tensor:
    """The adjoint of :func:`_split`, which is its inverse."""
    mean = (low + vertical + (low - vertical).roll(step, 2)) / 2
    change = (horizontal + diagonal + (horizontal - diagonal).roll(step, 2)) / 2
    return (mean + change + (mean - change).roll(step, 3)) / 2

"""Plug-and-play: meet the measurements, denoise at a falling level, repeat."""

from typing import Any

import torch
from torch import Tensor

from idm_lib.diffusion.range_null import trusted_step
from idm_lib.diffusion.schedules import NoiseSchedule
from idm_lib.diffusion.wavelet_start import shrinkage_start
from idm_lib.errors import InputError
from idm_lib.operators.base import check_measurements
from idm_lib.solvers.base import Progress, Recorder, Solution, check_iterations, check_prior

STARTS = ("grey", "wavelets")


@torch.no_grad()
def pnp(
    y: Tensor,
    op: Any,
    prior: Any = None,
    *,
    iterations: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_intermediates: bool = False,
    sigma_max: float = 0.3,
    sigma_min: float = 0.01,
    start: str = "grey",
) -> Solution:
    """Plug-and-play with decreasing noise levels (Zhang et al., arXiv 2008.13751), one network call a step.

    r = x̂ + λ A⁺(y − A x̂); x̂ = D(r, √(σ_t² + σ²)); at last once more the first of the two. λ is the share of the
    residual that is not noise, σ that of the measurements
    (:func:`~idm_lib.diffusion.range_null.trusted_step`). What a chain with the schedule ``levels`` does before any
    training, but for its wiring; it asks nothing of the operator, where OAMP asks for rows that look at random.

    Args and errors: see :class:`~idm_lib.solvers.base.Solver`; ``seed`` plays no part. And:
        sigma_max, sigma_min: the ends of the ladder σ_T … σ_1, which falls by one factor a step.
        start: ``grey``, or what ``wavelets`` make of the measurements
            (:func:`~idm_lib.diffusion.wavelet_start.shrinkage_start`).
    """
    total = check_iterations(iterations, 20)
    check_prior(prior, "pnp")
    if start not in STARTS:
        raise InputError(f"start must be one of {', '.join(STARTS)}; got {start!r}.")
    sigmas = NoiseSchedule.geometric(sigma_min, sigma_max, total).sigmas.tolist()
    noise_std = getattr(op, "noise_std", 0.0)
    recorder = Recorder(total, progress, keep_intermediates)
    grey = torch.full_like(op.A_adjoint(check_measurements(y)), 0.5)  # (B, 1, H, W)
    image = grey if start == "grey" else shrinkage_start(y, op, grey)
    for t in range(total, 0, -1):
        r = trusted_step(image, y, op).to(grey.dtype)
        image = prior(r, (sigmas[t] ** 2 + noise_std**2) ** 0.5)
        recorder.step(image, sigma=sigmas[t])
    return recorder.solution(trusted_step(image, y, op).to(grey.dtype), network_calls=total)

"""DDNM: run the diffusion sampler, and at every step replace what the measurements know."""

from typing import Any

import torch
from torch import Tensor

from idm_lib.diffusion.ddim import ddim_step, gaussian_like
from idm_lib.diffusion.range_null import range_null_step
from idm_lib.diffusion.schedules import NoiseSchedule
from idm_lib.errors import InputError
from idm_lib.operators.base import check_measurements
from idm_lib.solvers.base import (
    Progress,
    Recorder,
    Solution,
    check_iterations,
    check_prior,
)


@torch.no_grad()
def ddnm(
    y: Tensor,
    op: Any,
    prior: Any = None,
    *,
    iterations: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_intermediates: bool = False,
    eta: float = 1.0,
    sigma_max: float = 0.5,
    sigma_min: float = 0.005,
) -> Solution:
    """The denoising diffusion null-space model (Wang, Yu and Zhang, arXiv 2212.00490), one network call a step.

    From noise at ``sigma_max`` down a geometric ladder: x̂₀ = D(x̃, σ_t); x̂₀ ← x̂₀ − A⁺(A x̂₀ − y); then a DDIM step
    with a share η of fresh noise.

    Args and errors: see :class:`~idm_lib.solvers.base.Solver`, and:
        eta: η in [0, 1]; 1, all noise fresh, did best on held-out training images (results/tuning.json).
        sigma_max, sigma_min: the ladder's ends, tuned there too.
    """
    total = check_iterations(iterations, 100)
    check_prior(prior, "ddnm")
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1], the share of fresh noise; got {eta!r}.")
    sigmas = NoiseSchedule.geometric(sigma_min, sigma_max, total).sigmas.tolist()
    generator = torch.Generator().manual_seed(seed)
    recorder = Recorder(total, progress, keep_intermediates)
    start = op.A_dagger(check_measurements(y))
    clean = torch.full_like(start, 0.5)
    noisy = clean + sigmas[-1] * gaussian_like(start, generator)  # (B, 1, H, W)
    for t in range(total, 0, -1):
        predicted = prior(noisy, sigmas[t])
        epsilon = (noisy - predicted) / sigmas[t]
        clean = range_null_step(predicted, y, op)
        noise = gaussian_like(clean, generator) if eta else None
        noisy = ddim_step(clean, epsilon, sigmas[t - 1], eta, noise)
        recorder.step(clean, sigma=sigmas[t])
    return recorder.solution(clean, network_calls=total)

"""Orthogonal approximate message passing: a denoiser that is always told the truth about its noise."""

from typing import Any

import torch
from torch import Tensor

from idm_lib.diffusion.range_null import range_null_step
from idm_lib.diffusion.state_evolution import effective_variance, residual_mse
from idm_lib.errors import InputError
from idm_lib.operators.base import check_measurements
from idm_lib.solvers.base import (
    Progress,
    Recorder,
    Solution,
    check_iterations,
    check_prior,
)

_PROBE = 0.1  # length of the divergence probe, in units of the noise level


@torch.no_grad()
def oamp(
    y: Tensor,
    op: Any,
    prior: Any = None,
    *,
    iterations: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_intermediates: bool = False,
) -> Solution:
    """Alternate between the measurements and the denoiser, keeping their errors unrelated.

    Each iteration (Ma and Ping, IEEE Access 5, 2017; Metzler et al., arXiv 1406.4175, for the probe):

    1. r = x̂ + Aᵀ(y − A x̂)/γ, the image in white noise of variance τ² = ((1−γ)·mse(x̂) + σ²)/γ, where the residual
       gives mse(x̂);
    2. D(r, τ), the prior told that level;
    3. x̂ ← (D(r, τ) − d·r)/(1 − d), d = div D(r)/n by one Monte-Carlo probe: what D merely copies of r is taken out,
       so that the error of x̂ stays unrelated to that of r and step 1 holds again.

    It stops when the predicted error no longer falls; the last image is D(r, τ), projected onto the measurements.
    Two network calls an iteration, one in the last.

    Args and errors: see :class:`~idm_lib.solvers.base.Solver`; ``op`` must also have ``true_ratio``, and must not say
    that its rows are not orthonormal. Rows that are, and yet do not look at random, as Hadamard's in the order of
    their sequency, are not refused; r is then no image in white noise, and the result may be worse than A⁺y.
    """
    total = check_iterations(iterations, 10)
    check_prior(prior, "oamp")
    check_measurements(y)
    if not hasattr(op, "true_ratio") or not getattr(op, "orthonormal", True):
        raise InputError(
            f"oamp needs orthonormal rows and a true_ratio; this {type(op).__name__} lacks one of them; "
            "use ddnm or tv."
        )
    generator = torch.Generator().manual_seed(seed)
    ratio, noise_std = op.true_ratio, getattr(op, "noise_std", 0.0)
    recorder, calls = Recorder(total, progress, keep_intermediates), 0
    estimate = torch.full_like(op.A_dagger(y), 0.5)  # grey: an estimate that owes nothing to the measurements
    image, best = estimate, torch.full((len(y),), torch.inf, device=y.device)
    for iteration in range(total):
        mse = residual_mse(y, estimate, op)  # (B,)
        variance = effective_variance(mse, ratio, noise_std)  # (B,)
        if not bool((mse < best).any()) and iteration > 1:
            break  # the best that this prior and these measurements give
        best = torch.minimum(best, mse)
        tau = variance.sqrt().clamp_min(1e-4)
        r = estimate + op.A_adjoint(y - op.A(estimate)) / ratio  # (B, 1, H, W)
        image, calls = prior(r, tau), calls + 1
        recorder.step(image, tau=float(tau.mean()), residual_mse=float(mse.mean()))
        if iteration == total - 1:
            break
        probe = torch.randn(r.shape, generator=generator).sign().to(r)  # ±1: the least noisy probe there is
        step = _PROBE * tau[:, None, None, None]
        moved, calls = prior(r + step * probe, tau), calls + 1
        slope = ((moved - image) / step * probe).mean(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1), div D / n
        slope = slope.clamp(0.0, 0.95)
        estimate = (image - slope * r) / (1 - slope)
    return recorder.solution(range_null_step(image, y, op), calls)

"""Diffusion: noise schedules, DDIM, the range–null-space step, state evolution."""

from idm_lib.diffusion.ddim import ddim_step
from idm_lib.diffusion.range_null import range_null_step
from idm_lib.diffusion.schedules import NoiseSchedule
from idm_lib.diffusion.state_evolution import DenoiserCurve, effective_variance, predict, residual_mse

__all__ = [
    "DenoiserCurve",
    "NoiseSchedule",
    "ddim_step",
    "effective_variance",
    "predict",
    "range_null_step",
    "residual_mse",
]

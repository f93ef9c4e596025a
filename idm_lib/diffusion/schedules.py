"""Noise schedules: one ladder of noise levels, seen in two ways.

Variance exploding: x̃_t = x + σ_t n. Variance preserving: x_t = √ᾱ_t x + √(1−ᾱ_t) n. They are one thing up to
a factor, x_t = √ᾱ_t x̃_t with ᾱ_t = 1 / (1 + σ_t²) (Karras et al., arXiv 2206.00364, section 2), so one object
gives both views.
"""

import math
from typing import Self

import torch
from torch import Tensor

from idm_lib.errors import InputError


class NoiseSchedule:
    """T + 1 noise levels, 0 = σ_0 < σ_1 < … < σ_T.

    Args:
        sigmas: (T + 1,), float64, the first 0, rising.
    """

    def __init__(self, sigmas: Tensor) -> None:
        if sigmas.dim() != 1 or len(sigmas) < 2 or sigmas[0] != 0 or not bool((sigmas.diff() > 0).all()):
            raise InputError(f"a schedule needs noise levels that rise from 0; got {sigmas.tolist()[:5]}.")
        self.sigmas = sigmas.double()

    @classmethod
    def geometric(cls, sigma_min: float, sigma_max: float, steps: int) -> Self:
        """Levels that rise by one factor: σ_1 = sigma_min, …, σ_T = sigma_max."""
        if not 0 < sigma_min < sigma_max or steps < 1:
            raise InputError(
                f"a geometric schedule needs 0 < sigma_min < sigma_max and steps ≥ 1; "
                f"got {sigma_min}, {sigma_max} and {steps}."
            )
        low = sigma_max if steps == 1 else sigma_min
        rungs = torch.linspace(math.log(low), math.log(sigma_max), steps, dtype=torch.float64).exp()
        return cls(torch.cat([torch.zeros(1, dtype=torch.float64), rungs]))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.sigmas) - 1

    @property
    def alpha_bars(self) -> Tensor:
        """ᾱ_t = 1 / (1 + σ_t²), (T + 1,), from ᾱ_0 = 1 down."""
        return 1 / (1 + self.sigmas**2)

    def add_noise(self, x: Tensor, noise: Tensor, t: int) -> Tensor:
        """x_t = √ᾱ_t x + √(1−ᾱ_t) n: the variance-preserving noisy image at step t."""
        alpha_bar = float(self.alpha_bars[self.check_step(t)])
        return math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * noise

    def check_step(self, t: int) -> int:
        """Return t if it is one of 0 … T, else raise."""
        if not 0 <= t <= self.steps:
            raise InputError(f"t must lie in 0 … {self.steps}; got {t}.")
        return t

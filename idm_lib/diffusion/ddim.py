"""One step down the noise ladder, deterministic or not."""

import math

import torch
from torch import Tensor


def ddim_step(
    clean: Tensor, epsilon: Tensor, sigma_next: float, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """From the estimates of image and noise to the noisy image at the next level, in the σ view.

    x̃_{t−1} = x̂₀ + σ_{t−1} (√(1−η²) ε̂ + η n): the old noise again (η = 0, DDIM: Song et al., arXiv 2010.02502),
    fresh noise (η = 1), or a mixture of the same variance. Multiply by √ᾱ_{t−1} for the variance-preserving view.

    Args:
        clean: x̂₀, (B, 1, H, W).
        epsilon: ε̂, of unit variance, (B, 1, H, W).
        sigma_next: σ_{t−1} ≥ 0.
        eta: η in [0, 1], the share of fresh noise as in DDNM; the exact reverse step of DDPM keeps
            η = √(1 − σ²_{t−1}/σ²_t).
        noise: n, standard Gaussian, (B, 1, H, W); needed when η > 0.
    """
    if eta == 0:
        return clean + sigma_next * epsilon
    return clean + sigma_next * (math.sqrt(1 - eta**2) * epsilon + eta * noise)


def gaussian_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gaussian noise of x's shape, drawn on the CPU so that it is the same on every device."""
    return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)

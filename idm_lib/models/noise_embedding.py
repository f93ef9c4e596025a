"""How a network is told the noise level: smooth features of log σ, then a small perceptron."""

import math

import torch
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """σ → vector, (B,) → (B, channels).

    Sines and cosines of ln σ at geometrically spaced frequencies, so that nearby levels look alike and levels
    an octave apart do not; as the Fourier features of Karras et al. (arXiv 2206.00364), with fixed frequencies.

    Args:
        channels: width of the embedding, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, sigma: Tensor) -> Tensor:
        """Embed the levels σ > 0, (B,), one for each image."""
        log_sigma = sigma.log()[:, None]  # (B, 1)
        low, high = math.log(0.25), math.log(8.0)  # periods from 25 e-foldings, all of the range, to under one
        frequencies = torch.linspace(low, high, self.channels // 2, device=sigma.device, dtype=sigma.dtype).exp()
        angles = log_sigma * frequencies  # (B, channels/2)
        features = torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, channels)
        weight = self.linear_1.weight
        return self.linear_2(nn.functional.silu(self.linear_1(features.to(weight.dtype))))

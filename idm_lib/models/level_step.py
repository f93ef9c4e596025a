"""A step of the chain for any operator: meet the measurements, then denoise at a level that was learned."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from idm_lib.diffusion.range_null import trust
from idm_lib.models.blocks import Surroundings
from idm_lib.models.preconditioning import denoise
from idm_lib.models.runs import BlockMemory
from idm_lib.models.unet import ReversibleUNet, on_image


class LevelStep(nn.Module):
    """Plug-and-play with a ladder of noise levels, whose rungs and step lengths are learned.

    State evolution needs rows that look at random. Where they do not (a mask, a coarse sensor, frequencies, rays),
    what is wrong with an estimate looks like no white noise, and no residual tells its level. So each step is told
    one, as in plug-and-play with decreasing levels (Zhang et al., arXiv 2008.13751), and training finds it.

    1. r = x̂ + k·λ·A⁺(y − A x̂), where λ is the share of the residual that is not noise
       (:func:`~idm_lib.diffusion.range_null.trust`).
    2. u = D(r), told √(e^{2ℓ} + σ²), σ the noise on y: what comes back through A⁺ is no cleaner than that.
    3. u + w·(u − x̂), which makes up for the share that a wired link gives to the state before.

    Args:
        unet: the denoiser's network, shared by all steps.
        index: which set of injector weights is this step's.
        memory: what the backward pass stores of the U-Net's blocks.
        mean, std, sigma_range: see :func:`~idm_lib.models.preconditioning.denoise`.
    """

    def __init__(
        self,
        unet: ReversibleUNet,
        index: int,
        memory: BlockMemory,
        mean: float,
        std: float,
        sigma_range: tuple[float, float],
    ) -> None:
        super().__init__()
        self.unet, self.index, self.memory = unet, index, memory
        self.mean, self.std, self.sigma_range = mean, std, sigma_range

    def forward(self, x: Tensor, y: Tensor, op: Any, back_projection: Tensor, weights: Tensor) -> Tensor:
        """x̂_t → x̂_{t−1}.

        Args:
            x: x̂_t, (B, 1, H, W).
            y: measurements, (B, M).
            op: their operator.
            back_projection: Aᵀy, (B, 1, H, W).
            weights: k, ℓ and w, (3,).
        """
        gain, level, beyond = weights
        noise_std = getattr(op, "noise_std", 0.0)
        residual = y - op.A(x)  # (B, M)
        if noise_std:
            residual = trust(residual, noise_std)[:, None] * residual
        r = x + gain * op.A_dagger(residual).to(x.dtype)  # (B, 1, H, W)

        def network(image: Tensor, sigma: Tensor) -> Tensor:
            around = Surroundings(None, self.index, op, back_projection, self.memory)
            return on_image(self.unet, image, sigma, around)

        sigma = ((2 * level).exp() + noise_std**2).sqrt().to(x.dtype).expand(len(x))  # (B,)
        out = denoise(network, r, sigma, self.mean, self.std, self.sigma_range)
        return out + beyond * (out - x)


def first_levels(ladder: tuple[float, float], steps: int, v: float) -> Tensor:
    """k, ℓ and w of each step before training, (T, 3); row t − 1 is step t's, so the last step's is the first.

    Args:
        ladder: noise levels of the first and the last step; the others lie between, by one factor.
        steps: T.
        v: the steps' first wiring scalar, 0 without wiring; w = v/(1−v) makes up for it.
    """
    first, last = map(math.log, ladder)
    levels = torch.linspace(last, first, steps) if steps > 1 else torch.tensor([last])
    one = torch.ones(steps)
    return torch.stack([one, levels, v / (1 - v) * one], dim=1)

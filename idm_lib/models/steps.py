"""The sampling steps f_t, image to image: the paper's, and the one whose noise levels follow state evolution.

A step is a body of the level-1 chain. Whatever it needs a gradient for comes as an argument; the U-Net's parameters
are its own.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from idm_lib.diffusion.range_null import range_null_step
from idm_lib.diffusion.state_evolution import effective_variance, mse_of_residual, residual_slope
from idm_lib.models.blocks import Surroundings
from idm_lib.models.preconditioning import denoise
from idm_lib.models.runs import BlockMemory
from idm_lib.models.unet import ReversibleUNet, on_image


class PaperStep(nn.Module):
    """Step t of the paper (section "The chain"): predict the noise, denoise, meet the measurements, renoise.

    Args:
        unet: ε, shared by all steps.
        index: which set of injector weights is this step's.
        memory: what the backward pass stores of the U-Net's blocks.
    """

    def __init__(self, unet: ReversibleUNet, index: int, memory: BlockMemory) -> None:
        super().__init__()
        self.unet, self.index, self.memory = unet, index, memory

    def forward(
        self, x: Tensor, y: Tensor, op: Any, back_projection: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor
    ) -> Tensor:
        """x_t → x_{t−1}.

        Args:
            x: x_t, (B, 1, H, W).
            y: measurements, (B, M).
            op: their operator.
            back_projection: Aᵀy, (B, 1, H, W).
            alpha_bar, alpha_bar_next: ᾱ_t and ᾱ_{t−1}, scalars.
        """
        around = Surroundings(None, self.index, op, back_projection, self.memory)
        epsilon = on_image(self.unet, x, None, around)  # (B, 1, H, W)
        clean = (x - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt()
        clean = range_null_step(clean, y, op).to(x.dtype)
        return alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next).sqrt() * epsilon


class StateEvolutionStep(nn.Module):
    """A step that tells the denoiser its true noise level, then takes out what the denoiser merely copied.

    1. r = x̂ + k·Aᵀ(y − A x̂)/γ. With permuted orthonormal rows r is the image in white noise, and the residual tells
       its variance τ² (:func:`~idm_lib.diffusion.state_evolution.effective_variance`); so D, told e^ℓ·τ, is used
       exactly as it was trained.
    2. u = (D(r) − d·r)/(1 − d), where d is δ times D's slope, seen from what D removed
       (:func:`~idm_lib.diffusion.state_evolution.residual_slope`). The last step takes u = D(r).
    3. u + w·(u − x̂), which makes up for the share that a wired link gives to the state before.

    With k = δ = 1 and ℓ = w = 0 this is OAMP (Ma and Ping, IEEE Access 5, 2017), but for one network call an
    iteration instead of two. k, ℓ, δ and w are learned, for each step its own.

    Args:
        unet: the denoiser's network, shared by all steps.
        index: which set of injector weights is this step's.
        memory: what the backward pass stores of the U-Net's blocks.
        mean, std, sigma_range: see :func:`~idm_lib.models.preconditioning.denoise`.
        take_out: whether u is as above; otherwise u = D(r), as the last step has it.
    """

    def __init__(
        self,
        unet: ReversibleUNet,
        index: int,
        memory: BlockMemory,
        mean: float,
        std: float,
        sigma_range: tuple[float, float],
        take_out: bool,
    ) -> None:
        super().__init__()
        self.unet, self.index, self.memory = unet, index, memory
        self.mean, self.std, self.sigma_range, self.take_out = mean, std, sigma_range, take_out

    def forward(self, x: Tensor, y: Tensor, op: Any, back_projection: Tensor, weights: Tensor) -> Tensor:
        """x̂_t → x̂_{t−1}.

        Args:
            x: x̂_t, (B, 1, H, W).
            y: measurements, (B, M).
            op: their operator.
            back_projection: Aᵀy, (B, 1, H, W).
            weights: k, ℓ, δ and w, (4,).
        """
        gain, level, share, beyond = weights
        ratio = ratio_of(op, y, x)
        residual = y - op.A(x)  # (B, M)
        mse, noise_std = mse_of_residual(residual, op), getattr(op, "noise_std", 0.0)  # (B,)
        least = self.sigma_range[0] ** 2
        variance = effective_variance(mse, ratio, noise_std, gain).clamp_min(least).to(x.dtype)  # (B,)
        r = x + gain * op.A_adjoint(residual).to(x.dtype) / ratio  # (B, 1, H, W)

        def network(image: Tensor, sigma: Tensor) -> Tensor:
            around = Surroundings(None, self.index, op, back_projection, self.memory)
            return on_image(self.unet, image, sigma, around)

        tau = variance.sqrt() * level.exp()  # (B,)
        out = denoise(network, r, tau, self.mean, self.std, self.sigma_range)
        if self.take_out:
            slope = (share * residual_slope(out, r, variance)).clamp(0.0, 0.95)[:, None, None, None]  # (B, 1, 1, 1)
            out = (out - slope * r) / (1 - slope)
        return out + beyond * (out - x)


def ratio_of(op: Any, y: Tensor, x: Tensor) -> float | Tensor:
    """γ: the operator's ``true_ratio``, or M / (H·W) if it names none; a scalar tensor stays one, to be traced."""
    ratio = getattr(op, "true_ratio", y.shape[1] / math.prod(x.shape[1:]))
    return ratio if isinstance(ratio, Tensor) else float(ratio)


def held(raw: Tensor, low: float, high: float) -> Tensor:
    """The effective value of a raw parameter: held in [low, high], with the gradient passed straight through."""
    return raw + (raw.clamp(low, high) - raw).detach()


def alpha_bars(alpha: Tensor) -> Tensor:
    """ᾱ_0 … ᾱ_T from the raw α_1 … α_T: ᾱ_0 = 1, ᾱ_t = ∏_{i≤t} α_i, each α held in (0, 1); (T,) → (T + 1,)."""
    return torch.cat([alpha.new_ones(1), held(alpha, 0.01, 0.99).cumprod(0)])


def first_weights(steps: int, v: float) -> Tensor:
    """k, ℓ, δ and w of each step before training, (T, 4); row t − 1 is step t's, so the last step's is the first.

    Args:
        steps: T.
        v: the steps' first wiring scalar, 0 without wiring. A link gives (1−v)·f(x₁) + v·x₂; w = v/(1−v) makes that
            f(x₁) + v·(x₂ − x₁). Half of it was best before the last step, where the state is noisy.
    """
    weights = torch.tensor([1.0, 0.0, 1.0, 0.5 * v / (1 - v)]).repeat(steps, 1)
    weights[0, 3] *= 2
    return weights

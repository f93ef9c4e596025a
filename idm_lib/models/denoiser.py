"""The prior: a network that removes Gaussian noise of known strength from images."""

from pathlib import Path
from typing import Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from idm_lib.diffusion.schedules import NoiseSchedule
from idm_lib.errors import InputError
from idm_lib.models.config import check_denoising
from idm_lib.models.preconditioning import denoise
from idm_lib.models.storage import load_folder, resolve
from idm_lib.models.unet import ReversibleUNet, UNetConfig, on_image
from idm_lib.operators.base import check_whole


class Denoiser(ModelMixin, ConfigMixin):
    """The expected clean image given a noisy one: D(x + σ n, σ) ≈ E[x | x + σ n].

    The U-Net predicts the noise, preconditioned as in Karras et al. (arXiv 2206.00364, table 1) so that its
    input and target have unit variance at every σ. Noise prediction and denoising are one network seen twice:
    :meth:`forward` denoises, :meth:`epsilon` is the diffusion model's view.

    Args:
        block_channels, layers_per_block, norm_groups, noise_channels, wired, v:
            see :class:`~idm_lib.models.unet.UNetConfig`.
        sigma_min, sigma_max: the range of noise levels trained for, in units of the image range [0, 1].
        steps: T of the diffusion schedule that :meth:`epsilon` counts t in.
        image_mean, image_std: of natural images in [0, 1]; what the preconditioning assumes.

    Raises:
        InputError: numbers that no denoiser can be made of.
    """

    @register_to_config
    def __init__(
        self,
        block_channels: tuple[int, ...] = (32, 64, 96),
        layers_per_block: int = 2,
        norm_groups: int = 8,
        noise_channels: int = 64,
        wired: bool = True,
        v: float = 0.5,
        sigma_min: float = 0.005,
        sigma_max: float = 5.0,
        steps: int = 1000,
        image_mean: float = 0.5,
        image_std: float = 0.25,
    ) -> None:
        super().__init__()
        check_denoising(steps, image_mean, image_std, sigma_min, sigma_max)
        self.unet = ReversibleUNet(
            UNetConfig(
                block_channels=tuple(block_channels),
                layers_per_block=layers_per_block,
                attention=(False,) * len(block_channels),
                norm_groups=norm_groups,
                bottleneck_repeat=1,
                noise_channels=noise_channels,
                wired=wired,
                v=v,
            )
        )

    @property
    def schedule(self) -> NoiseSchedule:
        """The diffusion schedule of :meth:`epsilon`: geometric, sigma_min to sigma_max in ``steps`` steps."""
        return NoiseSchedule.geometric(self.config.sigma_min, self.config.sigma_max, self.config.steps)

    def forward(self, noisy: Tensor, sigma: Tensor | float) -> Tensor:
        """Denoise.

        Args:
            noisy: x + σ n, (B, 1, H, W), x in [0, 1].
            sigma: σ > 0, one number or (B,).

        Returns:
            The clean image's estimate, (B, 1, H, W), not clamped, in the dtype of ``noisy``; only the network inside
            runs in its weights' own.

        Raises:
            InputError: not (B, 1, H, W), or σ not positive. A tensor of levels is looked into on the CPU only, where
                autograd does not track it: on a GPU the look would wait for it, and a σ ≤ 0 in it gives NaN.
        """
        if noisy.dim() != 4 or noisy.shape[1] != 1:
            raise InputError(
                f"noisy must have shape (B, 1, H, W); got {tuple(noisy.shape)}; pass one channel at a time."
            )
        sigma = _levels(sigma, noisy)  # (B,)
        config = self.config
        levels = (config.sigma_min, config.sigma_max)

        def network(x: Tensor, level: Tensor) -> Tensor:
            return on_image(self.unet, x, level)

        return denoise(network, noisy, sigma, config.image_mean, config.image_std, levels)

    def epsilon(self, x_t: Tensor, t: int) -> Tensor:
        """The noise in x_t = √ᾱ_t x + √(1−ᾱ_t) n, by :attr:`schedule`: ε = (x_t/√ᾱ_t − D(x_t/√ᾱ_t, σ_t)) / σ_t.

        Args:
            x_t: (B, 1, H, W).
            t: the step, 1 … T.

        Raises:
            InputError: as :meth:`forward`, or t is not one of the steps.
        """
        schedule = self.schedule
        check_whole(t, "t", 0)
        if not 1 <= t <= schedule.steps:
            raise InputError(f"t must lie in 1 … {schedule.steps}; got {t}; at t = 0 there is no noise to predict.")
        sigma = float(schedule.sigmas[t])
        noisy = x_t * (1 + sigma**2) ** 0.5  # x_t / √ᾱ_t
        return (noisy - self(noisy, sigma)) / sigma

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load a prior: a shipped name (``"prior-tiny"``), a local folder, or a hub id.

        Raises:
            InputError: nothing of that name, or files that are missing, broken or of another model.
        """
        return load_folder(super().from_pretrained, resolve(name), cls.__name__, **kwargs)


def _levels(sigma: Tensor | float, like: Tensor) -> Tensor:
    levels = torch.as_tensor(sigma, dtype=like.dtype, device=like.device)
    levels = levels.expand(like.shape[0]) if levels.dim() == 0 else levels
    if levels.shape != (like.shape[0],):
        raise InputError(f"sigma must be one number or ({like.shape[0]},); got shape {tuple(levels.shape)}.")
    if isinstance(sigma, Tensor):
        plain = levels.device.type == "cpu" and not levels.requires_grad and type(levels) is Tensor
        wrong = levels.tolist()[:4] if plain and not bool((levels > 0).all()) else None
    else:  # a plain number is looked at wherever the image is
        wrong = sigma if isinstance(sigma, int | float) and not sigma > 0 else None
    if wrong is not None:
        raise InputError(f"sigma must be positive; got {wrong}; an image without noise needs no denoiser.")
    return levels

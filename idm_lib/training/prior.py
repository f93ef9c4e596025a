"""The prior's task: remove noise of every level from clean crops."""

import math

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.evaluation.metrics import psnr
from idm_lib.models.denoiser import Denoiser
from idm_lib.training.config import TrainConfig
from idm_lib.training.data import CropSource

VALIDATION_SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0)


class PriorTask:
    """What the training loop needs to know of a :class:`~idm_lib.models.Denoiser`.

    The loss is E ‖D(x + σn, σ) − x‖² weighted by (σ² + s²)/(σ s)², s = image_std, which gives every noise level
    the same weight at the network's output (Karras et al., arXiv 2206.00364, table 1); ln σ is uniform.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def build(self) -> Denoiser:
        """A new model with weights that depend only on the seed, or the trained prior that the run goes on from.

        Raises:
            InputError: ``model`` in the configuration has a key or value that the class does not take, or contradicts
                the prior that it starts from.
        """
        torch.manual_seed(self.config.seed)
        if self.config.start:
            model = Denoiser.from_pretrained(self.config.start).float()
            for name, value in self.config.model.items():
                found = model.config.get(name)
                if found != value:
                    raise InputError(
                        f"model.{name} is {value!r}, but {self.config.start} has {found!r}; leave it out to go on."
                    )
            return model
        try:
            return Denoiser(**self.config.model)
        except TypeError as error:
            raise InputError(f"model must hold arguments of Denoiser: {error}.") from None

    def before(self, model: Denoiser, step: int) -> None:
        """Nothing: all of a prior is learned."""

    def loss(self, model: nn.Module, x: Tensor, step: int, settings: Denoiser, part: slice = slice(None)) -> Tensor:
        """The weighted loss of a part of one batch x, (B, 1, h, w); noise and levels depend on seed and step."""
        generator = torch.Generator().manual_seed((self.config.seed << 32) + step)
        sigma = self.levels(len(x), settings, generator).to(x)  # (B,)
        noise = torch.randn(x.shape, generator=generator).to(x)
        x, sigma, noise = x[part], sigma[part], noise[part]
        spread = settings.config.image_std
        weight = (sigma**2 + spread**2) / (sigma * spread) ** 2  # (B,)
        error = model(x + sigma[:, None, None, None] * noise, sigma) - x
        return (weight * error.square().mean(dim=(1, 2, 3))).mean()

    def levels(self, count: int, settings: Denoiser, generator: torch.Generator) -> Tensor:
        """σ of each crop of a batch, (B,): ln σ is uniform, over the whole range or the one that is preferred."""
        low, high = math.log(settings.config.sigma_min), math.log(settings.config.sigma_max)
        sigma = torch.empty(count).uniform_(low, high, generator=generator).exp()
        chosen = self.config.levels
        if not chosen.share:
            return sigma
        preferred = torch.empty(count).uniform_(math.log(chosen.low), math.log(chosen.high), generator=generator)
        return torch.where(torch.rand(count, generator=generator) < chosen.share, preferred.exp(), sigma)

    def state(self, model: Denoiser) -> dict[str, float]:
        """Nothing beyond the loss."""
        return {}

    @torch.no_grad()
    def validate(
        self, model: Denoiser, source: CropSource, device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR in dB of the denoised held-out crops at several σ, and the first of them, (1, side, 3·side).

        The same crops and noise every time; a picture is the crop, the crop with noise, and what became of it.
        """
        if not source.validation:
            return {}, {}
        side = min(160, *(min(image.shape) for image in source.validation))
        x = source.validation_crops(side).to(device)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(device)
        scores, pictures = {}, {}
        for sigma in VALIDATION_SIGMAS:
            noisy = x + sigma * noise
            clean = torch.cat([model(part, sigma) for part in noisy.split(4)])
            scores[f"psnr@{sigma:g}"] = float(psnr(clean, x).mean())
            pictures[f"crop@{sigma:g}"] = torch.cat([x[0], noisy[0], clean[0]], dim=-1)
        return scores, pictures

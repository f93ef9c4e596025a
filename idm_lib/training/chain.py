"""The chain's task: an invertible diffusion model fine-tuned end to end, through every step at once."""

import math

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.evaluation.metrics import psnr
from idm_lib.memory import MemoryPolicy
from idm_lib.models import Denoiser, InvertibleDiffusion
from idm_lib.operators import BlockCS
from idm_lib.training.config import TrainConfig
from idm_lib.training.data import CropSource

VALIDATION_RATIOS = (0.1, 0.3, 0.5)
LOSSES = ("l1", "mse", "log-mse")


class ChainTask:
    """What the training loop needs to know of an :class:`~idm_lib.models.InvertibleDiffusion`.

    For every batch a ratio γ is drawn, ln γ uniform, and a permutation, shared by the batch; Φ stays. The loss is
    taken on the chain's output alone. ``log-mse``, the mean of ln mse over the images, is the PSNR itself but for a
    factor: every image and every ratio weighs the same, where L1 and mse mostly see those that went worst.

    Raises:
        InputError: an unknown loss or memory policy, or ratios out of order.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        if config.loss not in LOSSES:
            raise InputError(f"loss must be one of {', '.join(LOSSES)}; got {config.loss!r}.")
        self.memory = MemoryPolicy.named(config.memory)
        measure = config.measure
        if not 0 < measure.low <= measure.high <= 1:
            raise InputError(f"measure needs 0 < low ≤ high ≤ 1; got {measure.low} and {measure.high}.")
        side = config.data.crop
        self._operator = BlockCS((side, side), measure.high, measure.block_size, measure.seed)

    def build(self) -> InvertibleDiffusion:
        """A new model with weights that depend only on the seed, and on the prior that it starts from.

        Raises:
            InputError: ``model`` in the configuration has a key or value that the class does not take.
        """
        torch.manual_seed(self.config.seed)
        measure = self.config.measure
        record = {
            "ratios": (measure.low, measure.high),
            "operator": {"seed": measure.seed, "block_size": measure.block_size},
        }
        try:
            if self.config.start:
                prior = Denoiser.from_pretrained(self.config.start)
                return InvertibleDiffusion.from_prior(prior, **record, **self.config.model)
            return InvertibleDiffusion(**record, **self.config.model)
        except TypeError as error:
            raise InputError(f"model must hold arguments of InvertibleDiffusion: {error}.") from None

    def loss(
        self, model: nn.Module, x: Tensor, step: int, settings: InvertibleDiffusion, part: slice = slice(None)
    ) -> Tensor:
        """The loss of a part of one batch x, (B, 1, h, w); ratio and permutation depend on the seed and the step."""
        op, x = self.operator(step).to(x.device), x[part]
        return self.distance(model(op.A(x), op, self.memory), x)

    def operator(self, step: int) -> BlockCS:
        """The operator of one step."""
        generator = torch.Generator().manual_seed((self.config.seed << 32) + step)
        low, high = math.log(self.config.measure.low), math.log(self.config.measure.high)
        ratio = math.exp(low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64)))
        permutation = int(torch.randint(2**31, (), generator=generator))
        return self._operator.replace(min(ratio, self.config.measure.high), permutation)

    def distance(self, estimate: Tensor, x: Tensor) -> Tensor:
        """The chosen loss, a scalar, of two (B, 1, H, W)."""
        error = estimate - x
        if self.config.loss == "l1":
            return error.abs().mean()
        mse = error.square().mean(dim=(1, 2, 3))  # (B,)
        return mse.mean() if self.config.loss == "mse" else mse.clamp_min(1e-10).log().mean()

    @torch.no_grad()
    def validate(self, model: InvertibleDiffusion, source: CropSource, device: torch.device) -> dict[str, float]:
        """PSNR in dB of the reconstructed held-out crops at several ratios, and the least effective v."""
        wired = [float(v) for name, v in model.named_parameters() if ".v." in name]
        scores = {"min_v": min(wired)} if wired else {}
        if not source.validation:
            return scores
        side = min(160, *(min(image.shape) for image in source.validation))
        x = source.validation_crops(side).to(device)
        measure = self.config.measure
        for ratio in VALIDATION_RATIOS:
            op = BlockCS((side, side), ratio, measure.block_size, measure.seed, permutation_seed=1).to(device)
            found = torch.cat([model(op.A(part), op) for part in x.split(4)])
            scores[f"psnr@{ratio:g}"] = float(psnr(found, x).mean())
        return scores

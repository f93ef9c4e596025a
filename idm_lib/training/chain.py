"""The chain's task: an invertible diffusion model fine-tuned end to end, through every step at once."""

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.evaluation.metrics import psnr
from idm_lib.memory import MemoryPolicy
from idm_lib.models import InvertibleDiffusion
from idm_lib.models.starts import start_chain
from idm_lib.reversible import DriftLog
from idm_lib.training.config import TrainConfig
from idm_lib.training.data import CropSource
from idm_lib.training.operators import OperatorSource

LOSSES = ("l1", "mse", "log-mse")


class ChainTask:
    """What the training loop needs to know of an :class:`~idm_lib.models.InvertibleDiffusion`.

    For every batch an operator is drawn, shared by the batch (:mod:`idm_lib.training.operators`). The loss is
    taken on the chain's output alone. ``log-mse``, the mean of ln mse over the images, is the PSNR itself but for a
    factor: every image and every ratio weighs the same, where L1 and mse mostly see those that went worst.

    Raises:
        InputError: an unknown loss, memory policy or draw, or measurements that cannot be made.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        if config.loss not in LOSSES:
            raise InputError(f"loss must be one of {', '.join(LOSSES)}; got {config.loss!r}.")
        if config.optimiser.anneal_v and not config.model.get("wired_steps", True):
            raise InputError("optimiser.anneal_v leads the scalars of wired steps; leave it out, or wire the steps.")
        self.memory = MemoryPolicy.named(config.memory)
        self._drift = DriftLog()
        self.operator = OperatorSource(config.measure, config.data.crop, config.seed)

    def build(self) -> InvertibleDiffusion:
        """A new model with weights that depend only on the seed, and on what it starts from.

        Raises:
            InputError: ``model`` in the configuration has a key or value that the class does not take or that
                contradicts the start, or nothing that a chain can start from is there.
        """
        torch.manual_seed(self.config.seed)
        measure = self.config.measure
        record = {
            "ratios": (measure.low, measure.high),
            "operator": measure.operator or {"seed": measure.seed, "block_size": measure.block_size},
        }
        try:
            if self.config.start:
                model = start_chain(self.config.start, record, **self.config.model)
            else:
                model = InvertibleDiffusion(**record, **self.config.model)
        except TypeError as error:
            raise InputError(f"model must hold arguments of InvertibleDiffusion: {error}.") from None
        if self.config.optimiser.hold_schedule:
            (model.alpha if model.config.schedule == "paper" else model.weights).requires_grad_(False)
        return model

    @torch.no_grad()
    def before(self, model: InvertibleDiffusion, step: int) -> None:
        """Put the steps' wiring scalars where this step's place in the run wants them, if they are not learned."""
        last = self.config.optimiser.anneal_v
        if last:
            config = model.config
            first = config.v if config.v_steps is None else config.v_steps
            share = min(1.0, 2 * (step + 1) / self.config.steps)
            for v in model.chain.v:
                v.fill_(first + (last - first) * share)

    def loss(
        self, model: nn.Module, x: Tensor, step: int, settings: InvertibleDiffusion, part: slice = slice(None)
    ) -> Tensor:
        """The loss of a part of one batch x, (B, 1, h, w); the operator depends on the seed and the step."""
        op = self.operator(step).to(x.device)
        logged = (step + 1) % self.config.log_every == 0  # watching costs little, on a GPU a wait for it
        # The whole batch's, since noise has one seed: every part and every process is to have noise of its own.
        y = op.measure(x, seed=(self.config.seed + step) % 2**32)[part]
        return self.distance(model(y, op, self.memory, self._drift if logged else None), x[part])

    def distance(self, estimate: Tensor, x: Tensor) -> Tensor:
        """The chosen loss, a scalar, of two (B, 1, H, W)."""
        error = estimate - x
        if self.config.loss == "l1":
            return error.abs().mean()
        mse = error.square().mean(dim=(1, 2, 3))  # (B,)
        return mse.mean() if self.config.loss == "mse" else mse.clamp_min(1e-10).log().mean()

    def state(self, model: InvertibleDiffusion) -> dict[str, float]:
        """The least effective v, the worst drift since it was last asked for, and the schedule's learned numbers.

        Drift is the relative error of what the backward pass rebuilt by inversion; there is none if it inverts none.
        """
        wired = {name: float(v.detach()) for name, v in model.named_parameters() if ".v." in name}
        low, high = model.config.v_range
        found = {"min_v": min(max(v, low) for v in wired.values())} if wired else {}
        worst = self._drift.worst()
        self._drift.clear()
        if worst:
            found["drift"] = worst[1]
        steps = model.config.steps
        links = [min(max(v, low), high) for name, v in wired.items() if name.startswith("chain.")]  # t = T … 1
        found |= {f"v/{steps - i}": v for i, v in enumerate(links)}
        if model.config.schedule == "paper":
            return found | {f"alpha/{t + 1}": float(value) for t, value in enumerate(model.alpha.detach())}
        names = ("k", "l", "w") if model.config.schedule == "levels" else ("k", "l", "delta", "w")
        table = model.weights.detach().tolist()  # (T, 3) or (T, 4)
        return found | {f"{name}/{t + 1}": row[i] for t, row in enumerate(table) for i, name in enumerate(names)}

    @torch.no_grad()
    def validate(
        self, model: InvertibleDiffusion, source: CropSource, device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR in dB of the reconstructed held-out crops at several ratios, and the first of them, (1, side, 2·side).

        A picture is the crop and its reconstruction.
        """
        if not source.validation:
            return {}, {}
        side = self.operator.validation_side(min(160, *(min(image.shape) for image in source.validation)))
        x = source.validation_crops(side).to(device)
        scores, pictures = {}, {}
        for name, op in self.operator.for_validation(side).items():
            op = op.to(device)
            found = torch.cat([model(op.measure(part, seed=0), op) for part in x.split(4)])
            scores[f"psnr{name}"] = float(psnr(found, x).mean())
            pictures[f"crop{name}"] = torch.cat([x[0], found[0]], dim=-1)
        return scores, pictures

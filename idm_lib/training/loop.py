"""The training loop: batches by step number, averaged weights, atomic checkpoints, exact resumption."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from idm_lib.errors import InputError
from idm_lib.training.checkpoint import save_checkpoint
from idm_lib.training.config import TrainConfig
from idm_lib.training.data import CropSource
from idm_lib.training.log import RunLog
from idm_lib.training.optimiser import learning_rate, make_optimiser, set_learning_rate
from idm_lib.training.run_folder import admit, claim, export, resume, state_of

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Task(Protocol):
    """What is trained: a model, its loss on a batch and its score on held-out images."""

    def build(self) -> ModelMixin:
        """A new model with weights that depend only on the seed."""

    def before(self, model: ModelMixin, step: int) -> None:
        """Set, before every step, whatever of the model is led and not learned."""

    def loss(self, model: nn.Module, x: Tensor, step: int, settings: ModelMixin, part: slice = slice(None)) -> Tensor:
        """The loss of a part of one batch, a scalar; random numbers depend only on the seed and the step."""

    def state(self, model: ModelMixin) -> dict[str, float]:
        """What else the log shows of the model in training, by name: here and at every logged step."""

    def validate(
        self, model: ModelMixin, source: CropSource, device: torch.device
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Scores on the held-out images, and pictures (1, H, W) of the first of them, by name."""


def train(task: Task, config: TrainConfig, out: Path) -> Path:
    """Train to the end, from where the last checkpoint in ``out`` left off if there is one.

    A resumed run may learn at another pace (:data:`~idm_lib.training.run_folder.CHANGEABLE`); everything else must be
    as it was.

    Writes into ``out``: ``config.yaml`` (resolved), ``checkpoint.pt``, ``log.jsonl``, TensorBoard events if
    tensorboard is installed, and at the end ``final/`` (the averaged weights, as ``from_pretrained`` reads them).

    Args:
        task: what to train.
        config: how.
        out: folder of the run; made if missing.

    Returns:
        The folder of the final weights.

    Raises:
        InputError: fp16 without a GPU, the folder holds another run or cannot be written to, its checkpoint is
            another model's, the disk is full, or the loss is no longer a number (the message names the step; the last
            good checkpoint stays).
    """
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise InputError("precision fp16 needs a GPU, and there is none here; give --set precision=bf16 or fp32.")
    precision = "no" if config.precision == "fp32" else config.precision
    AcceleratorState._reset_state()  # which otherwise forbids a second run of another precision in one process
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    part = _share(config.data.batch, accelerator.process_index, accelerator.num_processes)
    parts = _split(part, config.accumulate)
    with accelerator.main_process_first():  # which fetches, if need be, and for all
        source = CropSource.of(config)
    for reason in source.skipped:
        accelerator.print(f"skipped: {reason}")

    model = task.build()
    optimiser = make_optimiser(model, config.optimiser, fused=accelerator.device.type == "cuda")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.optimiser.ema)).to(accelerator.device)
    wrapped, optimiser = accelerator.prepare(model, optimiser)
    try:
        admit(out, config)
        out.mkdir(parents=True, exist_ok=True)
        start = resume(out / "checkpoint.pt", model, average, optimiser, accelerator.scaler)
        log = RunLog(out, start) if accelerator.is_main_process else None
    except OSError as error:
        raise InputError(f"{out} cannot be written to ({error.strerror or error}); give another --out.") from None

    shown: dict[str, str] = {}
    bar = tqdm(
        range(start, config.steps),
        initial=start,
        total=config.steps,
        desc=config.name,
        unit="step",
        disable=None if log else True,
    )
    for step in bar:
        set_learning_rate(optimiser, learning_rate(step, config.steps, config.optimiser))
        task.before(model, step)
        x = source.batch(step, config.data.batch).to(accelerator.device)
        loss = _backward(accelerator, task, model, wrapped, x, step, parts)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.optimiser.clip or math.inf)
        finite = bool(torch.isfinite(loss + norm))
        if not finite and not _skipped(accelerator.scaler, loss):
            raise InputError(_no_number(step, loss, norm, out))
        if step == start and log:  # only now, so that a run that could not begin claims no folder
            claim(out, config)
        optimiser.step()
        optimiser.zero_grad()
        average.update_parameters(model)

        done = step + 1
        last = done == config.steps
        if log is None:
            continue  # one process writes
        if done % config.log_every == 0 or last:
            rate = learning_rate(step, config.steps, config.optimiser)
            scalars = {"loss": float(loss), "lr": rate, **task.state(model)}
            if finite:  # otherwise this update was skipped
                scalars["gradient_norm"] = float(norm)
            if accelerator.scaler:
                scalars["loss_scale"] = accelerator.scaler.get_scale()
            log.write(done, scalars)
            shown |= {name: f"{scalars[name]:.3g}" for name in ("loss", "drift", "min_v") if name in scalars}
            bar.set_postfix(shown)
        if source.validation and (done % config.validate_every == 0 or last):
            average.module.eval()
            scores, pictures = task.validate(average.module, source, accelerator.device)
            log.write(done, scores)
            log.show(done, pictures)
            shown |= {name: f"{value:.2f}" for name, value in scores.items() if name.startswith("psnr")}
            bar.write(f"step {done}: " + "  ".join(f"{k} {v:.2f}" for k, v in scores.items()))
        if done % config.checkpoint_every == 0 or last:
            save_checkpoint(out / "checkpoint.pt", state_of(done, model, average, optimiser, accelerator.scaler))
    if log:
        log.close()
        export(average.module, out / "final", config)
    accelerator.wait_for_everyone()
    return out / "final"


def _share(batch: int, process: int, processes: int) -> slice:
    """The part of every batch that one of several processes takes."""
    if batch % processes:
        raise InputError(f"data.batch must divide into {processes} processes; got {batch}.")
    return slice(process * batch // processes, (process + 1) * batch // processes)


def _split(share: slice, parts: int) -> list[slice]:
    """A process's share of a batch in equal parts, one after another."""
    size = share.stop - share.start
    if size % parts:
        raise InputError(f"accumulate must divide the {size} crops of a process's share of a batch; got {parts}.")
    return [slice(at, at + size // parts) for at in range(share.start, share.stop, size // parts)]


def _backward(
    accelerator: Accelerator, task: Task, model: ModelMixin, wrapped: nn.Module, x: Tensor, step: int,
    parts: Sequence[slice],
) -> Tensor:  # fmt: skip
    """Add up the gradients of a process's parts of a batch; return the loss of the whole batch, of all processes.

    Every process is told the same loss, so that all stop as one where it is no number.
    """
    loss = torch.zeros((), device=accelerator.device)
    half = HALF.get(accelerator.mixed_precision)
    for part in parts:
        with nullcontext() if part is parts[-1] else accelerator.no_sync(wrapped):
            # Not accelerate's own, which before 1.12 stayed on for good where training was interrupted.
            with torch.autocast(accelerator.device.type, dtype=half, enabled=half is not None):
                share = task.loss(wrapped, x, step, model, part) / len(parts)
            accelerator.backward(share)
        loss += share.detach()
    return accelerator.reduce(loss, "mean")


def _no_number(step: int, loss: Tensor, norm: Tensor, out: Path) -> str:
    """What to say, and what to do, where the loss or its gradient is no longer a number."""
    kept = (out / "checkpoint.pt").exists()
    return (
        f"step {step} gave loss {float(loss):g} and gradient norm {float(norm):g}; "
        + (f"the last good checkpoint is kept in {out}; " if kept else "there is no checkpoint yet; ")
        + ("lower optimiser.lr and resume." if kept else "lower optimiser.lr and begin again.")
    )


def _skipped(scaler: GradScaler | None, loss: Tensor) -> bool:
    """Whether gradients that are not finite are fp16's loss scale being too high.

    Then the scaler leaves the update out and halves its scale. At a scale of 1 or with such a loss it is no excuse.
    """
    return scaler is not None and bool(torch.isfinite(loss)) and scaler.get_scale() > 1

"""Tasks of one shape through the model at once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.evaluation.reconstruct import pooled
from idm_lib.evaluation.withheld import PredictedQuality, predict_quality, split_measurements
from idm_lib.models import InvertibleDiffusion
from idm_lib.operators import BlockCS, hold_back
from idm_lib.pipelines.batches import Task


def batches(tasks: list[Task], size: int | None) -> Iterator[list[Task]]:
    """Neighbouring tasks that one call of the model can serve, at most ``size`` of them."""
    batch: list[Task] = []
    for task in tasks:
        if batch and (len(batch) == size or not _alike(batch[0], task)):
            yield batch
            batch = []
        batch.append(task)
    if batch:
        yield batch


def _alike(one: Task, other: Task) -> bool:
    if one.y.shape != other.y.shape:
        return False
    if isinstance(one.op, BlockCS) and isinstance(other.op, BlockCS):
        fixed = [{**task.op.config(), "permutation_seed": None} for task in (one, other)]
        return fixed[0] == fixed[1]
    return one.op is other.op


def reconstruct_batch(
    model: InvertibleDiffusion, batch: list[Task], hold: float, seed: int
) -> tuple[list[Tensor], list[PredictedQuality]]:
    """Reconstruct a batch.

    Args:
        model: on the device of the measurements.
        batch: tasks of one shape, their operators equal but for the permutation.
        hold: fraction of the measurements held back, 0 for none.
        seed: of that choice.

    Returns:
        The images, each (C, 1, H, W), clamped to [0, 1], and, if measurements were held back, each one's quality.

    Raises:
        InputError: the model gave NaN or infinite pixels, or there are too few measurements to hold one back.
    """
    op, y = _joint(batch), torch.cat([task.y for task in batch])  # (B·C, M)
    if not hold:
        images = _run(model, y, op)
        return list(images.split(len(batch[0].y))), []
    if not isinstance(op, BlockCS):
        raise InputError(f"only measurements of a BlockCS can be held back; got a {type(op).__name__}; give hold=0.")
    kept, held = hold_back(op, hold, seed=seed)
    y_kept, y_held = split_measurements(y, kept, held)
    images = _run(model, y_kept, kept)
    qualities = predict_quality(images, y_kept, kept, y_held, held)
    channels = len(batch[0].y)
    return list(images.split(channels)), [
        pooled(qualities[i : i + channels]) for i in range(0, len(qualities), channels)
    ]


def _joint(batch: list[Task]) -> Any:
    """One operator for the rows of all tasks, with a permutation for each row where they differ."""
    first = batch[0].op
    if not isinstance(first, BlockCS) or len({task.op.permutation_seed for task in batch}) == 1:
        return first
    return first.replace(permutation_seed=[task.op.permutation_seed for task in batch for _ in task.y])


def _run(model: InvertibleDiffusion, y: Tensor, op: Any) -> Tensor:
    """(B, M) → (B, 1, H, W) in [0, 1], in the precision of y."""
    images = model(y.to(model.dtype), op).to(y.dtype)
    if not bool(images.isfinite().all()):
        raise InputError("the model gave NaN or infinite pixels; try a higher precision, or other weights.")
    return images.clamp(0, 1)

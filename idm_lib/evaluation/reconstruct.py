"""One image through the whole experiment: measure, hold back a few numbers, reconstruct, judge."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.evaluation.withheld import PredictedQuality, predict_quality, split_measurements
from idm_lib.operators import BlockCS, hold_back
from idm_lib.solvers.base import Solution

#: y, op → Solution: a solver with its prior and options filled in.
Method = Callable[[Tensor, Any], Solution]


@dataclass(frozen=True)
class Reconstruction:
    """What came of one image.

    Args:
        image: x̂, (C, 1, H, W) in [0, 1]: one channel, or three measured one by one.
        solution: the solver's own account.
        predicted: quality as the held-back measurements tell it, over all channels; None if none were held back.
        seconds: of the solver.
        operator: that measured.
    """

    image: Tensor
    solution: Solution
    predicted: PredictedQuality | None
    seconds: float
    operator: BlockCS


def reconstruct(y: Tensor, op: BlockCS, method: Method, hold: float = 0.01, seed: int = 0) -> Reconstruction:
    """Reconstruct from measurements and predict the quality from a few of them.

    The solver sees all but the held-back measurements. Channels share one operator, so their errors are pooled.

    Args:
        y: (C, M), one row for each channel.
        op: that took them.
        method: the solver.
        hold: fraction of the measurements held back, 0 for none.
        seed: of the choice.

    Raises:
        InputError: the method gave NaN or infinite pixels, or there are too few measurements to hold one back.
    """
    if not hold:
        solution, seconds = _timed(method, y, op)
        return Reconstruction(solution.image.clamp(0, 1), solution, None, seconds, op)
    kept, held = hold_back(op, hold, seed=seed)
    y_kept, y_held = split_measurements(y, kept, held)
    solution, seconds = _timed(method, y_kept, kept)
    image = solution.image.clamp(0, 1)
    qualities = predict_quality(image, y_kept, kept, y_held, held)
    return Reconstruction(image, solution, pooled(qualities), seconds, op)


def _timed(method: Method, y: Tensor, op: Any) -> tuple[Solution, float]:
    _finish(y.device)  # what made y is not the method's
    began = time.perf_counter()
    solution = method(y, op)
    _finish(y.device)
    seconds = time.perf_counter() - began
    if not bool(solution.image.isfinite().all()):
        raise InputError("the method gave NaN or infinite pixels; try other iterations, or another prior.")
    return solution, seconds


def _finish(device: torch.device) -> None:
    """Wait until a GPU, which need not be the current one, has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pooled(qualities: list[PredictedQuality]) -> PredictedQuality:
    """Average the channels' errors; keep the width of one channel's interval, since one choice of rows served all."""

    def average(values: list[float]) -> float:
        mean = sum(10 ** (-v / 10) for v in values) / len(values)
        return float(-10 * torch.tensor(mean, dtype=torch.float64).log10())

    first = qualities[0]
    ends = [average([getattr(q, name) for q in qualities]) for name in ("psnr", "low", "high")]
    return PredictedQuality(*ends, first.confidence, first.samples)

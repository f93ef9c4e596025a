"""A fine-tuned chain where a solver is expected, so that both are measured in one way."""

from typing import Any

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.models import InvertibleDiffusion
from idm_lib.operators.base import check_measurements
from idm_lib.solvers.base import Progress, Recorder, Solution


@torch.no_grad()
def fine_tuned(
    y: Tensor,
    op: Any,
    prior: Any = None,
    *,
    iterations: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_intermediates: bool = False,
) -> Solution:
    """x̂ of an :class:`~idm_lib.models.InvertibleDiffusion`, given as ``prior``: one network, not an iteration.

    Args: see :class:`~idm_lib.solvers.base.Solver`; ``iterations`` is the model's own T or None, ``seed`` plays no
        part, and there is one intermediate image, the last.

    Raises:
        InputError: no such model, another number of steps, or measurements that do not fit.
    """
    if not isinstance(prior, InvertibleDiffusion):
        raise InputError(
            f"expected an InvertibleDiffusion; got {type(prior).__name__}; "
            "give idm.InvertibleDiffusion.from_pretrained('tiny')."
        )
    steps = prior.config.steps
    if iterations not in (None, steps):
        raise InputError(f"the model is a chain of {steps} steps and has no others; got iterations={iterations}.")
    recorder = Recorder(1, progress, keep_intermediates)
    image = prior(check_measurements(y), op)
    recorder.step(image)
    return Solution(image, steps, steps, recorder.intermediates, recorder.history)

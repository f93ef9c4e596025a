"""The pseudo-inverse: the smallest image that explains the measurements; the baseline of all baselines."""

from typing import Any

from torch import Tensor

from idm_lib.operators.base import check_measurements
from idm_lib.solvers.base import Progress, Recorder, Solution


def pinv(
    y: Tensor,
    op: Any,
    prior: Any = None,
    *,
    iterations: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_intermediates: bool = False,
) -> Solution:
    """x̂ = A⁺ y, all of it in the range of A⁺ and nothing in the null space.

    Args and errors: see :class:`~idm_lib.solvers.base.Solver`; ``prior``, ``iterations`` and ``seed`` play no part.
    """
    recorder = Recorder(1, progress, keep_intermediates)
    image = op.A_dagger(check_measurements(y))
    recorder.step(image)
    return recorder.solution(image, network_calls=0)

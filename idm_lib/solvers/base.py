"""What every solver takes and gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_whole

#: Called after each iteration with (iterations done, iterations in all, the estimate so far).
Progress = Callable[[int, int, Tensor], None]


@dataclass
class Solution:
    """A reconstruction and what it cost.

    Args:
        image: (B, 1, H, W), not clamped.
        network_calls: how often the prior was evaluated on the batch.
        iterations: how many were run.
        intermediates: the estimate after each iteration, if asked for.
        history: numbers of each iteration that the solver knows of itself (noise level, predicted mse).
    """

    image: Tensor
    network_calls: int = 0
    iterations: int = 0
    intermediates: list[Tensor] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


class Solver(Protocol):
    """Reconstruct images from measurements, without training.

    The image has the dtype that the operator computes in, which is y's, but float32 at least; a prior of another
    dtype is evaluated in its own.

    Args of the call:
        y: measurements, (B, M), finite.
        op: the operator that took them (``A``, ``A_adjoint``, ``A_dagger``; for some also ``true_ratio``).
        prior: a :class:`~idm_lib.models.Denoiser`, for the solvers that use one.
        iterations: how many; each solver has its default.
        seed: of whatever the solver draws.
        progress: called after each iteration.
        keep_intermediates: also return the estimate after each iteration.
    """

    def __call__(
        self,
        y: Tensor,
        op: Any,
        prior: Any = None,
        *,
        iterations: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        keep_intermediates: bool = False,
    ) -> Solution:
        """Reconstruct."""


class Recorder:
    """Keeps a solver's iterations together: progress, intermediates, numbers."""

    def __init__(self, total: int, progress: Progress | None, keep: bool) -> None:
        self.total, self.progress, self.keep = total, progress, keep
        self.intermediates: list[Tensor] = []
        self.history: list[dict[str, float]] = []

    def step(self, image: Tensor, **numbers: float) -> None:
        """Note the estimate after one more iteration."""
        self.history.append(numbers)
        if self.keep:
            self.intermediates.append(image.detach().clone())
        if self.progress:
            self.progress(len(self.history), self.total, image)

    def solution(self, image: Tensor, network_calls: int) -> Solution:
        """The finished reconstruction."""
        return Solution(image, network_calls, len(self.history), self.intermediates, self.history)


def check_iterations(iterations: int | None, default: int) -> int:
    """The number of iterations to run.

    Raises:
        InputError: not a whole number of at least 1.
    """
    if iterations is None:
        return default
    return check_whole(iterations, "iterations", 1)


def check_prior(prior: Any, name: str) -> Any:
    """Refuse to run a solver without the prior that it needs; return the prior."""
    if prior is None:
        raise InputError(f"{name} needs a prior; give idm.Denoiser.from_pretrained('prior-tiny').")
    return prior

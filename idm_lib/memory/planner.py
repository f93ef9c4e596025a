"""What a training step will cost, before there is a machine for it: the step itself, run on tensors without data.

The real model's real step, forward and backward, runs on fake tensors under the :class:`~idm_lib.memory.Meter`. So
the plan is what a run on real tensors counts, for any model, size, precision and policy, and nothing is allocated.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from statistics import mode
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from idm_lib.errors import InputError
from idm_lib.memory.meter import Counts, Meter
from idm_lib.memory.policy import MemoryPolicy
from idm_lib.reversible.ambient import HALF_DTYPES
from idm_lib.reversible.rounding import INPUT

GIB = 2**30
PRECISIONS = ("fp32", "amp", "fp64")
BY_SPEED = ("store", "fast", "default", "lean", "least", "paper")  # fewest operations first, whatever the model


@dataclass(frozen=True)
class Problem:
    """A training step to be planned.

    Attributes:
        model: what is trained.
        loss: called as ``loss(batch, policy)``, with the number of images; returns the scalar to differentiate.
    """

    model: nn.Module
    loss: Callable[[int, MemoryPolicy], Tensor]


@dataclass(frozen=True)
class StepPlan:
    """What a training step costs.

    Attributes:
        policy: the memory policy.
        batch: images in a step.
        micro_batch: images that go through the model at a time; gradients of the rest are added up.
        precision: ``fp32``, ``amp`` (bodies in half precision under autocast) or ``fp64``.
        peak_gib: the most that one step has alive at once beyond what :attr:`persistent_gib` counts before it:
            activations, gradients, and autocast's copies of the weights.
        drift_cure_gib: how much of that peak is there only to keep inversion exact in half precision.
        persistent_gib: what stays between steps: parameters, their gradients, and Adam's two moments.
        total_gib: what a device must hold: parameters and moments beside the peak, which has the gradients in it.
        flops: floating-point operations of the whole step.
        forward_units: the same in units of one evaluation of the model without gradients.
        forwards_per_layer: how often a layer is evaluated for each time in a forward pass without gradients; of the
            layers that pass uses most, which all sampling steps share, the number that most of them have.
    """

    policy: MemoryPolicy
    batch: int
    micro_batch: int
    precision: str
    peak_gib: float
    drift_cure_gib: float
    persistent_gib: float
    total_gib: float
    flops: int
    forward_units: float
    forwards_per_layer: float


def plan(
    make: Callable[[], Problem],
    policy: MemoryPolicy,
    batch: int,
    precision: str = "amp",
    micro_batch: int | None = None,
) -> StepPlan:
    """Count what one training step of ``batch`` images costs; allocates nothing of the model's size.

    Args:
        make: builds model and data; called where every tensor that is made is fake, on the CPU.
        policy: what the backward pass stores.
        batch: images in a step.
        precision: ``fp32``, ``amp`` or ``fp64``.
        micro_batch: images at a time, a divisor of ``batch``; None for all at once.

    Raises:
        InputError: an unknown precision, or numbers of images that do not fit.
    """
    micro = batch if micro_batch is None else micro_batch
    if precision not in PRECISIONS:
        raise InputError(f"expected a precision out of {', '.join(PRECISIONS)}, got {precision!r}.")
    if batch < 1 or micro < 1 or batch % micro:
        raise InputError(f"expected a batch that divides into micro-batches, got {batch} and {micro}.")
    with FakeTensorMode(allow_non_fake_inputs=True):
        problem = make()
        _cast(problem.model, torch.float64 if precision == "fp64" else torch.float32)
        passes = min(2, batch // micro)  # gradients are there already from the second one on
        forward = count_forward(problem, micro, precision)
        step = count_step(problem, policy, micro, precision, passes)
        cure = 0
        if precision == "amp" and policy.blocks == "invert" and policy.streams != INPUT:
            bare = count_step(problem, replace(policy, streams=INPUT), micro, precision, passes)
            cure = step.peak_bytes - bare.peak_bytes
        size = sum(p.nbytes for p in problem.model.parameters() if p.requires_grad)
        frozen = sum(p.nbytes for p in problem.model.parameters()) - size
    most = max(forward.evaluations.values())
    shared = [name for name, calls in forward.evaluations.items() if calls == most]
    return StepPlan(
        policy=policy,
        batch=batch,
        micro_batch=micro,
        precision=precision,
        peak_gib=step.peak_bytes / GIB,
        drift_cure_gib=cure / GIB,
        persistent_gib=(frozen + 4 * size) / GIB,
        total_gib=(frozen + 3 * size + step.peak_bytes) / GIB,
        flops=step.flops // passes * (batch // micro),
        forward_units=step.flops / passes / forward.flops,
        forwards_per_layer=mode(step.evaluations[name] for name in shared) / passes / most,
    )


def fastest_that_fits(
    make: Callable[[], Problem], batch: int, budget_gib: float, precision: str = "amp"
) -> tuple[str, StepPlan]:
    """Return the name and plan of the policy with the fewest operations whose ``total_gib`` is within the budget.

    Of its micro-batches, the largest that fits. The number of operations does not depend on how a batch is divided.

    Raises:
        InputError: nothing fits, not even one image at a time; says what the least is.
    """
    sizes = [size for size in range(batch, 0, -1) if batch % size == 0]
    least = float("inf")
    for name in BY_SPEED:
        single = plan(make, MemoryPolicy.named(name), batch, precision, 1)
        least = min(least, single.total_gib)
        if single.total_gib <= budget_gib:
            larger = (plan(make, single.policy, batch, precision, size) for size in sizes[:-1])
            return name, next((found for found in larger if found.total_gib <= budget_gib), single)
    raise InputError(
        f"no policy fits {budget_gib:g} GiB: one image at a time needs {least:.2f} GiB at least; "
        "take smaller images, fewer steps or a larger budget."
    )


def count_forward(problem: Problem, batch: int, precision: str) -> Counts:
    """Count one evaluation of the loss without gradients, on whatever tensors the problem is made of."""
    with (
        _as_on_cuda(problem.model),
        Meter(_layers(problem.model)) as meter,
        torch.no_grad(),
        _autocast(problem, precision),
    ):
        problem.loss(batch, MemoryPolicy.store())
    return meter.counts()


def count_step(problem: Problem, policy: MemoryPolicy, batch: int, precision: str, passes: int = 1) -> Counts:
    """Count ``passes`` forward and backward passes, whose gradients add up, on whatever tensors there are.

    Gradients from before are dropped first, and those made are dropped at the end.
    """
    problem.model.zero_grad(set_to_none=True)
    with _as_on_cuda(problem.model), Meter(_layers(problem.model)) as meter:
        for _ in range(passes):
            with _autocast(problem, precision):
                loss = problem.loss(batch, policy)
            loss.backward()
            del loss
    counts = meter.counts()
    problem.model.zero_grad(set_to_none=True)
    return counts


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold parameters themselves and no other modules: convolutions, linear layers, norms."""
    return {n: m for n, m in model.named_modules() if not any(m.children()) and any(True for _ in m.parameters())}


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """``model.to(dtype)``, which fake parameters do not allow."""
    for owner in model.modules():
        for key, parameter in list(owner.named_parameters(recurse=False)):
            if parameter.dtype != dtype:
                owner.register_parameter(key, nn.Parameter(parameter.detach().to(dtype), parameter.requires_grad))


def _autocast(problem: Problem, precision: str) -> AbstractContextManager[Any]:
    device = next(problem.model.parameters()).device.type
    return torch.autocast(device, dtype=torch.float16) if precision == "amp" else nullcontext()


@contextmanager
def _as_on_cuda(model: nn.Module) -> Iterator[None]:
    """Evaluate norms in float32 under autocast on the CPU too, as CUDA's autocast does.

    Of what a network spends its memory on, that is all in which the two differ.
    """

    def widen(module: nn.Module, args: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(a.float() if isinstance(a, Tensor) and a.dtype in HALF_DTYPES else a for a in args)

    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)]
    handles = [norm.register_forward_pre_hook(widen) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

"""How far down memory can go: what a training step holds at least, whatever its backward pass stores.

Parameters, their gradients and the optimiser's moments are there throughout. Every part of the network has to be
evaluated and differentiated once, alone if need be; the largest of them sets the rest. A part could be cut into
pieces of its own (channels, rows, one image at a time), and then this bound is another's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from idm_lib.memory import MemoryPolicy, Problem
from idm_lib.memory.planner import GIB, count_forward, count_step
from idm_lib.models.injector import Injector
from idm_lib.models.runs import WiredRun

PARTS = (ResnetBlock2D, Transformer2DModel, Injector, Downsample2D, Upsample2D)


@dataclass(frozen=True)
class Floor:
    """What no choice of a policy can spare, in GiB.

    Attributes:
        persistent_gib: parameters, their gradients, Adam's two moments.
        body: name of the part that needs most.
        body_gib: its own forward and backward pass, from its input to that input's gradient; its weights' gradients
            are in ``persistent_gib``.
        stream_gib: where it is a link of a chain, the other stream and that stream's gradient.
    """

    persistent_gib: float
    body: str
    body_gib: float
    stream_gib: float

    @property
    def total_gib(self) -> float:
        """The bound."""
        return self.persistent_gib + self.body_gib + self.stream_gib


@dataclass(frozen=True)
class _Call:
    """One evaluation of a part: the module, its arguments with shapes for tensors, and whether it is a link."""

    module: nn.Module
    arguments: tuple[Any, ...]
    is_link: bool


def lower_bound(make: Callable[[], Problem], batch: int, precision: str = "amp") -> Floor:
    """Count the bound of a training step; allocates nothing of the model's size.

    Args:
        make: builds the model, an :class:`~idm_lib.models.InvertibleDiffusion`, and its data.
        batch: images at a time.
        precision: ``amp`` or ``fp32``.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        problem = make()
        names = {module: name for name, module in problem.model.named_modules()}
        found = []
        for part, call in _calls(problem, batch, precision).items():
            peak = count_step(_alone(call), MemoryPolicy.store(), batch, precision).peak_bytes
            own = peak - sum(p.nbytes for p in call.module.parameters())
            stream = 2 * call.arguments[0].nbytes if call.is_link else 0
            found.append((own + stream, own, stream, names[part]))
        size = sum(p.nbytes for p in problem.model.parameters())
    _, own, stream, name = max(found)
    return Floor(4 * size / GIB, name, own / GIB, stream / GIB)


def _calls(problem: Problem, batch: int, precision: str) -> dict[nn.Module, _Call]:
    """Each part of the U-Net with one of its evaluations; links of a chain as the chain calls them."""
    found: dict[nn.Module, _Call] = {}

    def of_run(run: nn.Module, args: tuple[Any, ...]) -> None:
        state, bodies, extras = args[:3]
        x = state if isinstance(state, Tensor) else state[0]
        for body, side in zip(bodies, extras, strict=True):
            part = next(m for m in body.modules() if isinstance(m, PARTS))
            found[part] = _Call(body, (x, *side), True)

    def of_part(part: nn.Module, args: tuple[Any, ...]) -> None:
        found.setdefault(part, _Call(part, args, False))

    handles = []
    for module in problem.model.unet.modules():
        if isinstance(module, (WiredRun, *PARTS)):
            handles.append(module.register_forward_pre_hook(of_run if isinstance(module, WiredRun) else of_part))
    try:
        count_forward(problem, batch, precision)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _alone(call: _Call) -> Problem:
    """The part's own forward and backward pass, from an input that is made anew to that input's gradient."""

    def fresh(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, device=value.device, requires_grad=True)

    def loss(batch: int, policy: MemoryPolicy) -> Tensor:
        return _Given.apply(call.module(*(fresh(value) for value in call.arguments)))

    return Problem(call.module, loss)


class _Given(torch.autograd.Function):
    """Ends a graph: the gradient that comes back is a tensor of the output's size, as it is inside a network."""

    @staticmethod
    def forward(ctx: Any, out: Tensor) -> Tensor:
        ctx.like = out.shape, out.dtype, out.device
        return out.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        shape, dtype, device = ctx.like
        return torch.empty(shape, dtype=dtype, device=device)

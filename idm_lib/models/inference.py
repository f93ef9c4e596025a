"""A model made ready for inference: half precision, channels last, compiled, on tiles; the model is left alone.

Only the network changes. What surrounds it stays as it is: operator, data consistency and the streams of both levels
run in float32 (float64 if y is) on the whole image.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.models.blocks import Surroundings
from idm_lib.models.compiler import missing_to_compile
from idm_lib.models.runs import BlockMemory, Bodies, Extras, Pair, WiredRun
from idm_lib.models.tiles import TiledOperator, Tiling
from idm_lib.models.unet import ReversibleUNet
from idm_lib.operators.base import compute_dtype, full_precision

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class InferenceOptions:
    """How a network is evaluated; the defaults change nothing.

    What each option loses in dB and gains in time is measured in results/inference.json.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float16`` for the convolutions and matrix products; None for the model's.
            Few CPUs have fast kernels for float16.
        channels_last: channels last in memory, which suits tensor cores and some CPUs.
        compile: let ``torch.compile`` fuse the network's operations, for any image size (True, or the name of one of
            its backends); the first call takes long.
        tile: evaluate the network on square tiles of so many pixels a side, blended; None for the whole image.
        overlap: how many pixels neighbouring tiles share, at least.

    Raises:
        InputError: another dtype, or sizes that are no sizes.
    """

    dtype: torch.dtype | None = None
    channels_last: bool = False
    compile: bool | str = False
    tile: int | None = None
    overlap: int = 64

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in HALF:
            raise InputError(
                f"dtype must be torch.bfloat16, torch.float16 or None; got {self.dtype}; for others use model.to()."
            )
        if self.tile is not None and not (_is_count(self.tile) and _is_count(self.overlap + 1)):
            raise InputError(f"tile and overlap must be numbers of pixels; got {self.tile!r} and {self.overlap!r}.")
        if self.tile is not None and self.overlap >= self.tile:
            raise InputError(f"overlap must be less than tile; got {self.overlap} and {self.tile}.")


Model = TypeVar("Model", bound=nn.Module)


def optimised(model: Model, options: InferenceOptions) -> Model:
    """A model of the same class that evaluates its network as ``options`` say; for inference, not for saving.

    Args:
        model: an :class:`~idm_lib.models.InvertibleDiffusion` or a :class:`~idm_lib.models.Denoiser`; not changed.
            The new one shares the memory of every weight that need not be converted, and its weights are frozen;
            the gradient with respect to y passes.
        options: what to do.

    Raises:
        InputError: the model has no U-Net of this library, a tile does not fit it, what compiling needs is missing,
            or it is to compile a network with injectors (they call the operator, which no compiler sees through).
    """
    unet = getattr(model, "unet", None)
    if not isinstance(unet, ReversibleUNet):
        raise InputError(f"expected a model with a ReversibleUNet; got {type(model).__name__}; give it the original.")
    _check_fits(unet, options)
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    ready = copy.deepcopy(model, memo).eval()
    ready.unet = PreparedUNet(ready.unet, options)
    return ready


class PreparedUNet(nn.Module):
    """Takes the place of a :class:`~idm_lib.models.ReversibleUNet`: same call, same result up to the options' loss.

    Tiles: each is evaluated with its own group statistics and its own attention, so the result differs from the
    whole image's not only at seams. A network without injectors sees one tile after another, and needs memory for
    one. One with injectors sees all tiles as one batch, since every injector needs the operator, and so the whole
    image of features, at once: what tiles save is then attention's share alone.

    Args:
        network: a copy of its own, which is converted in place.
        options: how to evaluate it.
    """

    def __init__(self, network: ReversibleUNet, options: InferenceOptions) -> None:
        super().__init__()
        self.config, self.multiple, self.options = network.config, network.multiple, options
        self.injects = any(network.config.injectors)
        for owner, name, run in list(_wired_runs(network)):
            setattr(owner, name, DirectRun(run))
        for module in network.modules() if options.dtype else ():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(options.dtype)
        self.network = network.to(memory_format=torch.channels_last) if options.channels_last else network
        self.dtype = torch.float32 if options.dtype else network.dtype
        backend = options.compile if isinstance(options.compile, str) else "inductor"
        compiled = options.compile is not False
        self._call = torch.compile(network, dynamic=True, fullgraph=True, backend=backend) if compiled else network

    def forward(self, x: Tensor, sigma: Tensor | None = None, around: Surroundings | None = None) -> Tensor:
        """As :meth:`ReversibleUNet.forward`; what ``around`` says of memory is ignored."""
        told = replace(around or Surroundings(), memory=BlockMemory())
        if self.options.dtype and told.op is not None:
            told = replace(told, op=FullPrecisionOperator(told.op))
        size = (x.shape[-2], x.shape[-1])
        tile = self.options.tile
        grid = Tiling.over(size, tile // 2, self.options.overlap // 2) if tile else None  # 2 × 2 pixels a sample
        if grid is None or len(grid) == 1:
            return self._evaluate(x, sigma, told)
        if not self.injects:
            told = replace(told, op=None, back_projection=None)
            out = torch.zeros_like(x)
            for (rows, columns), window in zip(grid.places(), grid.windows(x), strict=True):
                out[..., rows, columns] += window * self._evaluate(x[..., rows, columns], sigma, told)
            return out
        image_size = (told.back_projection.shape[-2], told.back_projection.shape[-1])
        op = TiledOperator(told.op, grid.scaled(2), image_size)
        told = replace(told, op=op, back_projection=op.cut(told.back_projection))
        levels = None if sigma is None else sigma.repeat(len(grid))  # (tiles·B,)
        return grid.blend(self._evaluate(grid.cut(x), levels, told))

    def _evaluate(self, x: Tensor, sigma: Tensor | None, told: Surroundings) -> Tensor:
        if self.options.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with self._precision(x):
            out = self._call(x, sigma, told)
        return out.to(x.dtype, memory_format=torch.contiguous_format)

    def _precision(self, x: Tensor) -> AbstractContextManager[Any]:
        if self.options.dtype is None:
            return nullcontext()
        return torch.autocast(x.device.type, dtype=self.options.dtype)


class DirectRun(WiredRun):
    """A wired run evaluated as its formula says, one link after another; a chain is for training.

    Args:
        run: whose s, m and v it takes over.
    """

    def __init__(self, run: WiredRun) -> None:
        nn.Module.__init__(self)
        self.s, self.m, self.v, self.u, self.v_range, self.name = run.s, run.m, run.v, run.u, run.v_range, run.name

    def forward(
        self, state: Tensor | Pair, bodies: Bodies, extras: Extras, memory: BlockMemory, stored: int = 0
    ) -> tuple[Tensor, Pair]:
        """As :meth:`WiredRun.forward`."""
        x1, x2 = state if self.s is None else (state, self.s * state)  # each (B, C, H, W)
        dtype = torch.promote_types(x1.dtype, x2.dtype)  # the streams': float32 where bodies run in half precision
        x1, x2 = x1.to(dtype), x2.to(dtype)
        for i, (body, side, raw) in enumerate(zip(bodies, extras, self.v, strict=True)):
            v = raw + (raw.clamp(*self.v_range) - raw).detach()  # [1]
            u = 1 - v if self.u is None else self.u[i]
            x1, x2 = u * body(x1, *side).to(dtype) + v * x2, x1
        return x1 + self.m * x2, (x1, x2)


class FullPrecisionOperator:
    """An operator that is never evaluated below float32, whatever precision the caller is in.

    Args:
        op: with ``A`` and ``A_adjoint``.
    """

    def __init__(self, op: Any) -> None:
        self.op = op

    def A(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) → (B, M)."""
        with full_precision(x):
            return self.op.A(x.to(compute_dtype(x)))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """(B, M) → (B, 1, H, W)."""
        with full_precision(y):
            return self.op.A_adjoint(y.to(compute_dtype(y)))


def _wired_runs(network: nn.Module) -> Iterator[tuple[nn.Module, str, WiredRun]]:
    for owner in network.modules():
        for name, child in owner.named_children():
            if isinstance(child, WiredRun):
                yield owner, name, child


def _check_fits(unet: ReversibleUNet, options: InferenceOptions) -> None:
    multiple = 2 * unet.multiple
    if options.tile is not None and (options.tile % multiple or options.overlap % multiple):
        raise InputError(
            f"tile and overlap must be multiples of {multiple} for this network; "
            f"got {options.tile} and {options.overlap}."
        )
    if options.compile and any(unet.config.injectors):
        raise InputError(
            "expected a network without injectors to compile; they call the operator: leave compile off."
        )
    missing = missing_to_compile(next(unet.parameters()).device) if options.compile in (True, "inductor") else []
    if missing:
        raise InputError(f"compile needs what is not here: {', '.join(missing)}; install it, or leave compile off.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

"""Counts what a computation costs: bytes alive, floating-point operations, evaluations of each body.

The counts are exact and need no GPU, and no data either: on meta or fake tensors the same operations are dispatched
on the same shapes. So what a policy saves can be proved on a laptop, to the byte. What an allocator adds by rounding,
and what a kernel uses inside, is not seen.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from idm_lib.memory.flops import flops_of, has_formula, is_operation
from idm_lib.reversible import ReversibleChain


@dataclass(frozen=True)
class Counts:
    """What one computation cost.

    Attributes:
        flops: floating-point operations of matrix products, convolutions and attention.
        peak_bytes: the most that was alive at once, of what was allocated since counting began.
        live_bytes: what of it is alive still.
        evaluations: how often each watched module was called.
    """

    flops: int
    peak_bytes: int
    live_bytes: int
    evaluations: dict[str, int] = field(default_factory=dict)


class Meter:
    """Counts while it is entered: ``with Meter(chain) as meter: step()``, then ``meter.counts()``.

    A byte counts from the operation that allocates its storage to the moment when nothing refers to that storage: no
    variable, no saved tensor of autograd, and nothing that a custom Function keeps on its context. Tensors that were
    there before count only if :meth:`include` is told of them.

    Args:
        watch: modules whose calls are counted, by name; a chain stands for the bodies of its links. A plain function
            as a body is not seen.
    """

    def __init__(self, watch: ReversibleChain | Mapping[str, nn.Module] | None = None) -> None:
        if isinstance(watch, ReversibleChain):
            watch = {f"{watch.name}[{i}]": link.body for i, link in enumerate(watch.links)}
        self._watch = dict(watch or {})
        self._mode = _MeterMode()
        self._evaluations = dict.fromkeys(self._watch, 0)
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        # A body may stand in several places; it is hooked once, and each of its names shows all its calls.
        names: dict[nn.Module, list[str]] = {}
        for name, module in self._watch.items():
            if isinstance(module, nn.Module):
                names.setdefault(module, []).append(name)
        for module, its_names in names.items():
            handle = module.register_forward_pre_hook(self._counter(its_names))
            self._entered.callback(handle.remove)
        self._entered.enter_context(self._mode)
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.close()

    def include(self, *tensors: Tensor) -> None:
        """Count these tensors' storages too, from now on: a model's parameters, for instance."""
        for tensor in tensors:
            self._mode.track(tensor)

    @property
    def live_bytes(self) -> int:
        """Bytes alive now."""
        return self._mode.live

    def counts(self) -> Counts:
        """Return the counts so far; works during and after the counting."""
        return Counts(self._mode.flops, self._mode.peak, self._mode.live, dict(self._evaluations))

    def reset_peak(self) -> None:
        """Begin a new maximum from what is alive now."""
        self._mode.peak = self._mode.live

    def _counter(self, names: Sequence[str]) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Any, ...]) -> None:
            for name in names:
                self._evaluations[name] += 1

        return count


def measure(computation: Callable[[], Any], watch: ReversibleChain | Mapping[str, nn.Module] | None = None) -> Counts:
    """Run ``computation`` once and return what it cost; what it returns is dropped before the last count."""
    with Meter(watch) as meter:
        computation()
    return meter.counts()


class _MeterMode(TorchDispatchMode):
    """Sees every operation below autograd, in the forward and in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.live = self.peak = 0
        self._sizes: dict[int, int] = {}  # bytes of each storage alive, by its identity
        self._watchers: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not is_operation(func) or func.namespace == "prim":  # a question after a tensor's device, say
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and not has_formula(func):
            with self:  # inference mode alone sends composite operations here whole: count their parts
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self.flops += flops_of(func, args, kwargs, result)
        old: set[int] | None = None
        for leaf in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if not _has_storage(leaf):
                continue
            if _key(leaf) not in self._sizes:
                # A view of a tensor from before, or such a tensor changed in place, allocates nothing.
                if old is None:
                    old = {_key(given) for given in tree_leaves((args, kwargs)) if _has_storage(given)}
                if _key(leaf) in old:
                    continue
            self.track(leaf)
        return result

    def track(self, tensor: Tensor) -> None:
        """Count the tensor's storage, if it is new or has been resized, until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self.live += size - self._sizes.get(key, 0)
        self.peak = max(self.peak, self.live)
        if key not in self._sizes:
            self._watchers[key] = weakref.ref(storage, lambda _, key=key: self._freed(key))
        self._sizes[key] = size

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)
        self._watchers.pop(key, None)


def _has_storage(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.layout == torch.strided


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata

"""Keep the results of chosen costly operations in the first evaluation, and give them back in the second.

A body is evaluated twice, so an operation inside it is paid for twice, attention above all. What attention *returns*
is no larger than the stream; keeping it spares the recompute nearly all its cost, for a price in bytes that one can
count. Both modes work below autograd: in the recompute, autograd records the operation as usual, with the kept
result as its output.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from idm_lib.reversible.ambient import Ambient, same_state

#: The fused kernels behind ``scaled_dot_product_attention``, by their names in ``torch.ops.aten``.
ATTENTION = frozenset(
    {
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    }
)


_TENSOR = object()  # marks where a tensor stood among an operation's results


@dataclass(frozen=True, eq=False)
class Kept:
    """What is known of one kept result beside its tensors.

    Attributes:
        order: its number among the calls of named operations in that evaluation.
        key: the operation, and its inputs' shapes, dtypes and other arguments.
        structure: how the tensors and other values make up the result.
    """

    order: int
    key: tuple[Any, ...]
    structure: Any


class Record(TorchDispatchMode):
    """Run everything, and keep the results of the operations named in ``names``.

    One that draws random numbers is not kept: given back, it would leave the generator where it was, and whatever
    the body draws after it would differ. What tells is the generators' state, not the operation's name, since the
    fused attention kernels draw only if they are given a dropout.

    Args:
        names: of operations, as in ``torch.ops.aten``.
        ambient: reads the generators' state.
    """

    def __init__(self, names: Collection[str], ambient: Ambient) -> None:
        super().__init__()
        self._names, self._ambient = names, ambient
        self._calls = 0
        self._kept: list[tuple[Kept, tuple[Tensor, ...], list[int]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        if _name(func) not in self._names:
            return func(*args, **kwargs)
        args = _with_logsumexp(func, args)
        order, before = self._calls, self._ambient.random_state()
        self._calls += 1
        result = func(*args, **kwargs)
        if not same_state(before, self._ambient.random_state()):
            return result
        leaves, structure = tree_flatten(result)
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        others = [_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        kept = Kept(order, _key(func, args, kwargs), (others, structure))
        self._kept.append((kept, tensors, [tensor._version for tensor in tensors]))
        return result

    def results(self) -> list[tuple[Kept, tuple[Tensor, ...]]]:
        """Return what was kept, without the results that the body has since changed in place."""
        return [(k, t) for k, t, versions in self._kept if [tensor._version for tensor in t] == versions]


class Replay(TorchDispatchMode):
    """Run everything but the operations that were kept: those return what was kept.

    An operation that was not kept, or that comes with inputs of another shape or dtype, is simply run. So replay can
    make a second evaluation cheaper but never different.
    """

    def __init__(self, names: Collection[str], results: Sequence[tuple[Kept, tuple[Tensor, ...]]]) -> None:
        super().__init__()
        self._names = names
        self._calls = 0
        self._results = {kept.order: (kept, tensors) for kept, tensors in results}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation, or return what was kept of it."""
        kwargs = kwargs or {}
        if _name(func) not in self._names:
            return func(*args, **kwargs)
        kept, tensors = self._results.get(self._calls, (None, ()))
        self._calls += 1
        if kept is None or kept.key != _key(func, _with_logsumexp(func, args), kwargs):
            return func(*args, **kwargs)
        others, structure = kept.structure
        waiting = iter(tensors)
        # Detached aliases: autograd makes the result part of a graph, and the kept tensor must stay out of it.
        return tree_unflatten([next(waiting).detach() if o is _TENSOR else o for o in others], structure)


def _name(func: Callable[..., Any]) -> str:
    return func._overloadpacket.__name__ if isinstance(func, torch._ops.OpOverload) else ""


def _key(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    leaves, structure = tree_flatten((args, kwargs))
    described = tuple((tuple(a.shape), a.dtype) if isinstance(a, Tensor) else a for a in leaves)
    return (_name(func), described, str(structure))


def _with_logsumexp(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Ask an attention kernel for the log-sum-exp that its backward needs, which without gradients it would skip."""
    schema = getattr(func, "_schema", None)
    for position, argument in enumerate(schema.arguments if schema else ()):
        if argument.name == "compute_log_sumexp" and position < len(args):
            return (*args[:position], True, *args[position + 1 :])
    return args

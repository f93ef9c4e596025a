"""A second device, pretended: tensors that say they lie on it, hold their values on the CPU, and mix with none there.

A machine without a GPU cannot show that nothing of a step was left on the CPU, what is read from the device on the
way, or that the backward pass may run in a thread of its own, as it does for every device but the CPU. Here all of it
can be seen: autograd treats this device as it treats a GPU, and every operation refuses what a GPU would refuse.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
aten = torch.ops.aten

#: Operations whose result the CPU has to wait for.
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.nonzero.default}
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # an index may lie on the CPU
#: Views that a flag of the tensor stands for; a Pretended has no flags.
FLAGGED = {aten._conj.default: aten._conj_physical.default, aten._neg_view.default: aten.neg.default}
#: What autocast evaluates in its half precision, and what in float32, of the operations that occur here.
HALF = ("conv2d", "linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "scaled_dot_product_attention")
SINGLE = ("group_norm", "layer_norm", "softmax.int", "mse_loss")


class Pretended(Tensor):
    """A tensor of the pretended device; its values are those of ``held``, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        """Give a tensor on the CPU another device."""
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.shape, device=f"{NAME}:0", **shape)
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Pretended({self.held!r})"

    def tolist(self) -> Any:
        """The values, read from the device; torch has no way for a subclass."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation where no :class:`Device` counts."""
        return _run(func, args, kwargs or {}, Counter())


class Device(TorchDispatchMode):
    """Where the device's name is known to every operation.

    Attributes:
        reads: how often a value of the device was waited for, by operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation and count whether it reads."""
        return _run(func, args, kwargs or {}, self.reads)


def pretend() -> torch.device:
    """Make the device known to this process, for good and before its first backward pass; return it."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    _KEPT.append(torch.library.Library("_", "IMPL"))
    _KEPT[-1].fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _KEPT.append(torch.library.Library("aten", "IMPL"))
    for name in (*HALF, *SINGLE):
        _KEPT[-1].impl(name, partial(_autocast, name), "AutocastPrivateUse1")
    # torch.tensor and torch.as_tensor pass every mode by, and end here.
    _KEPT[-1].impl("empty_strided", _empty, "PrivateUse1")
    _KEPT[-1].impl("copy_", _filled, "PrivateUse1")
    return torch.device(NAME, 0)


_KEPT: list[torch.library.Library] = []  # a registration ends with its library


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a device beside its operations: its generator, which is the CPU's, and autocast's dtypes."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def synchronize(self, device: Any = None) -> None:
        """Nothing runs by itself here."""


def _empty(size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    return Pretended(torch.empty_strided(size, stride, dtype=dtype))


def _filled(to: Pretended, source: Tensor, non_blocking: bool = False) -> Tensor:
    to.held.copy_(source)
    return to


def _autocast(name: str, *args: Any, **kwargs: Any) -> Any:
    """Run an operation in the dtype that autocast has for it, as CUDA's lists have it."""
    to = torch.get_autocast_dtype(NAME) if name in HALF else torch.float32

    def cast(value: Any) -> Any:
        return value.to(to) if isinstance(value, Tensor) and value.is_floating_point() else value

    packet, _, overload = name.partition(".")
    func: Callable[..., Any] = getattr(getattr(aten, packet), overload or "default")
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
        return func(*tree_map(cast, args), **tree_map(cast, kwargs))


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any], reads: Counter[str]) -> Any:
    """Run one operation on the values that are held, and say where its results lie."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [t for t in tensors if isinstance(t, Pretended)]
    named = kwargs.get("device")
    to = bool(there) if named is None else torch.device(named).type == NAME
    if there and func not in COPIES:
        stray = [tuple(t.shape) for t in tensors if not isinstance(t, Pretended) and t.dim()]
        if stray and not (func in INDEXED and isinstance(args[0], Pretended)):
            shapes = [tuple(t.shape) for t in there]
            raise RuntimeError(f"{func} expects tensors on one device, got {shapes} on {NAME} and {stray} on the CPU")
    if there and (func in READS or (func is aten._to_copy.default and not to)):
        reads[str(func)] += 1
    if named is not None and to:
        kwargs = kwargs | {"device": torch.device("cpu")}
    bare_args, bare_kwargs = tree_map(_held, (tuple(args), kwargs))
    result = FLAGGED.get(func, func)(*bare_args, **bare_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if not to:
        return result
    same = {id(t.held): t for t in there}  # what was changed in place
    return tree_map(lambda r: same.get(id(r)) if id(r) in same else Pretended(r) if _bare(r) else r, result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _bare(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, Pretended)

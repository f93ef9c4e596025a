"""Floating-point operations of one dispatched call: matrix products, convolutions and attention."""

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"  # torch's own table leaves the CPU's kernel out


def has_formula(func: Any) -> bool:
    """Return whether the operation is counted; all others count as free, as is usual."""
    packet = func._overloadpacket
    return packet in flop_registry or packet.__name__ in (_CPU_ATTENTION, _CPU_ATTENTION + "_backward")


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Return what one call costs, a multiplication and an addition counted as two; 0 for an uncounted operation."""
    packet = func._overloadpacket
    if packet.__name__ == _CPU_ATTENTION:
        return sdpa_flop_count(*(t.shape for t in args[:3]))
    if packet.__name__ == _CPU_ATTENTION + "_backward":
        return sdpa_backward_flop_count(*(t.shape for t in args[:4]))
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    return 0


def is_operation(func: Any) -> bool:
    """Return whether ``func`` is an ATen-style operation, which has a name and can be decomposed."""
    return isinstance(func, torch._ops.OpOverload)

"""The fused attention of CUDA, pretended: its operations with all that they return, computed by those of the CPU.

A GPU attends by other operations than a CPU, each with results of its own: random states, undefined tensors, and a
log-sum-exp that one of them leaves out unless it is asked for. Whatever keeps and returns such results has to cope.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from pretended import Device, Pretended, aten
from torch import Tensor

FLASH = aten._scaled_dot_product_flash_attention.default
FLASH_BACK = aten._scaled_dot_product_flash_attention_backward.default
EFFICIENT = aten._scaled_dot_product_efficient_attention.default
EFFICIENT_BACK = aten._scaled_dot_product_efficient_attention_backward.default


def flash(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """What ``scaled_dot_product_attention`` does on a GPU in half precision."""
    return FLASH(query, key, value)[0]


def efficient(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """What it does in single precision: the log-sum-exp is for who will differentiate."""
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    return EFFICIENT(query, key, value, None, wanted)[0]


class CudaAttention(Device):
    """A device with these operations.

    Attributes:
        calls: how often each was run, by its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Run one operation; the fused ones by those of the CPU."""
        if func not in (FLASH, FLASH_BACK, EFFICIENT, EFFICIENT_BACK):
            return super().__torch_dispatch__(func, types, args, kwargs)
        assert not kwargs
        self.calls[func._overloadpacket.__name__] += 1
        held = [arg.held if isinstance(arg, Pretended) else arg for arg in args]
        forward = func in (FLASH, EFFICIENT)
        one = aten._scaled_dot_product_flash_attention_for_cpu
        if forward:
            out, logsumexp = map(Pretended, one(*held[:3]))
            state = Pretended(torch.zeros(2, dtype=torch.int64))
            if func is FLASH:
                length = held[0].shape[-2]
                return out, logsumexp, None, None, length, held[1].shape[-2], state, state, state
            if not held[4]:
                logsumexp = Pretended(logsumexp.held[..., :0])
            return out, logsumexp, state, state
        start = 5 if func is EFFICIENT_BACK else 4  # after the bias, if it can have one
        found = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *held[:4], *held[start : start + 2], 0.0, False
        )
        return (*map(Pretended, found), None) if func is EFFICIENT_BACK else tuple(map(Pretended, found))

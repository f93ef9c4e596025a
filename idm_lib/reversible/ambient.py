"""What surrounds an evaluation without being passed to it: autocast and the random number generators.

A recomputed body must see both exactly as its first evaluation did, or its result differs.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

HALF_DTYPES = (torch.float16, torch.bfloat16)


def has_data(tensor: Tensor) -> bool:
    """Return whether ``tensor`` holds values; a meta or fake tensor has only a shape, dtype and device."""
    return not (tensor.is_meta or hasattr(tensor, "fake_mode"))


@dataclass(frozen=True)
class Ambient:
    """The autocast state and the device of one forward pass, to be entered again in its backward pass."""

    device: torch.device
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    with_data: bool

    @classmethod
    def capture(cls, x: Tensor) -> "Ambient":
        """Capture what surrounds the caller, for the CPU and the device of ``x``."""
        kinds = [kind for kind in dict.fromkeys(("cpu", x.device.type)) if torch.amp.is_autocast_available(kind)]
        states = tuple((k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds)
        return cls(x.device, states, has_data(x))

    @property
    def half_dtype(self) -> torch.dtype | None:
        """The half-precision dtype in which autocast evaluates bodies on this device, if it does."""
        for kind, enabled, dtype in self.autocast:
            if kind == self.device.type and enabled and dtype in HALF_DTYPES:
                return dtype
        return None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run as at the capture, with autocast's weight cache off.

        A weight cast and cached while gradients are off would be served, without a graph, to a later use that
        needs its gradient.
        """
        with ExitStack() as stack:
            for kind, enabled, dtype in self.autocast:
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False))
            yield

    def random_state(self) -> tuple[Tensor, ...]:
        """Return the generators' states: the CPU's, then the device's; empty where there are no values to draw."""
        if not self.with_data:
            return ()
        states = (torch.get_rng_state(),)
        if self.device.type != "cpu":
            states += (torch.get_device_module(self.device.type).get_rng_state(self.device),)
        return states

    @contextmanager
    def random_state_set(self, states: tuple[Tensor, ...]) -> Iterator[None]:
        """Run with the generators at ``states`` and put them back afterwards; nothing to do for ``()``."""
        if not states:
            yield
            return
        before = self.random_state()
        try:
            self._set(states)
            yield
        finally:
            self._set(before)

    def _set(self, states: tuple[Tensor, ...]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.get_device_module(self.device.type).set_rng_state(states[1], self.device)


def same_state(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> bool:
    """Return whether no generator has moved between two :meth:`Ambient.random_state`."""
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

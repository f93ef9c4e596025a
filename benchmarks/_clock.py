"""Time on a device, out-of-memory as a result, and a budget of seconds that ends a benchmark cleanly."""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

Row = dict[str, Any]


class Budget:
    """Decides what may still be measured.

    Args:
        seconds: for everything together.
    """

    def __init__(self, seconds: float) -> None:
        self.ends = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.perf_counter()

    def row(self, about: Row, expected: float, measure: Callable[[], Row]) -> Row:
        """Return ``about`` with what ``measure`` finds: numbers, that it does not fit, or that no time was left.

        Args:
            about: what is to be measured.
            expected: seconds that it may take.
            measure: called if they are left.
        """
        if self.left < expected:
            found: Row = {"not_measured": "the time budget was spent"}
        else:
            began = time.perf_counter()
            try:
                found = measure()
            except torch.OutOfMemoryError:
                found = {"out_of_memory": True}
            found["took_seconds"] = time.perf_counter() - began
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        shown = (about | found).items()
        print("  " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown), flush=True)
        return about | found


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], Any], device: str, rounds: int, at_most: float = 6.0) -> float:
    """The fastest of up to ``rounds`` calls, of which no more begin after ``at_most`` seconds; warm up before."""
    found: list[float] = []
    while len(found) < rounds and (not found or sum(found) < at_most):
        synchronise(device)
        began = time.perf_counter()
        call()
        synchronise(device)
        found.append(time.perf_counter() - began)
    return min(found)

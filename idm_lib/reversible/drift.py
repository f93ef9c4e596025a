"""How far reconstructed streams are from the true ones: measured on demand, and watched while training."""

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor


class DriftWarning(UserWarning):
    """Streams were reconstructed less exactly than the bound that was set."""


@dataclass
class DriftLog:
    """Watches a training run's inversions for the price of a few sampled numbers a link.

    Pass it to a chain's call as ``drift=log``. The forward pass keeps ``samples`` numbers of each link's x2, drawn at
    fixed places; the backward pass compares what it reconstructs there. ``log.errors`` then maps every link's label,
    such as ``"chain[3]"``, to its largest relative error since :meth:`clear` (root mean square of the difference over
    that of the truth): a link that every sampling step shares is met many times in one backward pass.

    Args:
        bound: a larger error warns once for each link, by name.
        samples: numbers kept of each stream.
        seed: for the places where they are taken.
    """

    bound: float = 1e-2
    samples: int = 256
    seed: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set, repr=False)

    def places(self, like: Tensor) -> Tensor:
        """Return the flat positions that are watched in a stream like ``like``: int64, at most ``samples``."""
        generator = torch.Generator().manual_seed(self.seed)
        count = min(self.samples, like.numel())
        return torch.randint(max(like.numel(), 1), (count,), generator=generator).to(like.device)

    def record(self, label: str, truth: Tensor, rebuilt: Tensor) -> None:
        """Note the error of one link; the chain calls this."""
        error = relative_error(rebuilt, truth)
        self.errors[label] = max(self.errors.get(label, 0.0), error, key=_badness)
        if not error <= self.bound and label not in self._warned:
            self._warned.add(label)
            warnings.warn(
                f"{label}: its input was reconstructed with a relative error of {error:.2e}, above {self.bound:.2e}; "
                f"use stream_dtype=torch.float64 or 'exact', or a smaller anchor_every",
                DriftWarning,
                stacklevel=2,
            )

    def clear(self) -> None:
        """Forget the errors; what has been warned of is not warned of again."""
        self.errors.clear()

    def worst(self) -> tuple[str, float] | None:
        """Return the label and error of the worst link since :meth:`clear`, or None before a backward pass.

        NaN is worse than any number: what was rebuilt there is lost.
        """
        return max(self.errors.items(), key=lambda item: _badness(item[1])) if self.errors else None


def _badness(error: float) -> tuple[bool, float]:
    """Order errors with NaN above all others; by itself it is above none."""
    return math.isnan(error), error


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return the root mean square of ``value − truth`` over that of ``truth``, in float64; 0 for no elements."""
    if truth.numel() == 0:
        return 0.0
    value, truth = value.detach().double(), truth.detach().double()
    scale = truth.square().mean().sqrt()
    return float((value - truth).square().mean().sqrt() / scale.clamp_min(torch.finfo(torch.float64).tiny))

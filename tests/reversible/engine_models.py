"""Small bodies and chains for the engine's tests."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from idm_lib.reversible import ReversibleChain, WiredCoupling

MODES = ("store", "checkpoint", "invert")


class ConvBody(nn.Module):
    """A residual-style convolutional body that also takes side inputs, added to its input."""

    def __init__(self, channels: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)
        self.calls = 0

    def forward(self, x: Tensor, *extras: Tensor | None) -> Tensor:
        self.calls += 1
        for extra in extras:
            if isinstance(extra, Tensor):
                x = x + torch.tanh(extra) * extra.mean(dtype=x.dtype if not extra.is_floating_point() else None)
        return self.last(torch.tanh(self.first(x)))


def wired_chain(
    vs: Sequence[float],
    *,
    dtype: torch.dtype = torch.float64,
    channels: int = 3,
    seed: int = 0,
    gain: float = 1.0,
    **options,
) -> ReversibleChain:
    """Wired convolutional bodies; ``gain`` scales the default weights, and so how lively the chain is."""
    torch.manual_seed(seed)
    chain = ReversibleChain([WiredCoupling(ConvBody(channels), v=v) for v in vs], **options)
    with torch.no_grad():
        for link in chain.links:
            link.body.first.weight.mul_(gain)
            link.body.last.weight.mul_(gain)
    return chain.to(dtype)


def streams(
    shape: Sequence[int] = (2, 3, 5, 4), dtype: torch.dtype = torch.float64, seed: int = 1, grad: bool = True
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x1.requires_grad_(grad), x2.requires_grad_(grad)


def loss_of(h1: Tensor, h2: Tensor) -> Tensor:
    """A scalar that weighs every element of both streams differently."""
    weights = torch.linspace(-1, 1, h1.numel(), dtype=h1.dtype).view_as(h1)
    return (weights * h1).sum() + (weights.flip(0) * h2.square()).sum()


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest magnitude of ``b``."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))


def distance(gradients: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Euclidean distance of all gradients together, over the norm of ``expected``."""
    pairs = list(zip(gradients, expected, strict=True))
    square = sum((g.double() - e.double()).square().sum() for g, e in pairs)
    return float((square / sum(e.double().square().sum() for _, e in pairs)).sqrt())


def worst(gradients: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    assert len(gradients) == len(expected)
    return max(relative(g, e) for g, e in zip(gradients, expected, strict=True))

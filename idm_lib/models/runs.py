"""A run of shape-preserving bodies, wired into a reversible chain or, for comparison, not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from idm_lib.reversible import ATTENTION, DriftLog, FreeCoupling, ReversibleChain, WiredCoupling

Bodies = Sequence[nn.Module]
Extras = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class BlockMemory:
    """What the U-Net's backward pass stores of its blocks.

    Args:
        kind: ``store``, ``checkpoint`` or ``invert``: what :class:`~idm_lib.reversible.ReversibleChain` does with the
            wired runs. Blocks that cannot be wired are stored with ``store`` and checkpointed otherwise.
        keep_attention: keep the attentions' outputs, so that the second evaluation need not compute them again.
        stream_dtype: what the streams are held in; see :class:`~idm_lib.reversible.ReversibleChain`.
        drift: watches how exactly inverted runs are rebuilt.
        slices: that an attention's feed-forward is computed in; see :class:`~idm_lib.models.attention.AttentionBody`.
    """

    kind: str = "store"
    keep_attention: bool = False
    stream_dtype: torch.dtype | str | None = None
    drift: DriftLog | None = None
    slices: int = 1

    def call(self, module: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Evaluate a block that is not wired; recompute its inside in the backward pass unless all is stored."""
        if self.kind == "store" or not torch.is_grad_enabled():
            return module(*inputs)
        return checkpoint(module, *inputs, use_reentrant=False)


Pair = tuple[Tensor, Tensor]


class WiredRun(nn.Module):
    """A run of shape-preserving bodies as one reversible chain: double the stream, run, merge.

    The stream h becomes the pair [h, s·h]; body i maps it by ``y₁ = (1−vᵢ)·Fᵢ(x₁) + vᵢ·x₂, y₂ = x₁``; the pair
    becomes y₁ + m·y₂ (paper, section "Wiring"). The run owns s, m and the vᵢ; the bodies belong to their block.

    Args:
        links: how many bodies the run has.
        v: first value of each vᵢ.
        v_range: bounds on the effective vᵢ.
        doubles: whether the run begins with one stream; otherwise it goes on with an earlier run's pair.
        name: for messages and drift logs.
        free: whether each link has a uᵢ of its own in the place of 1 − vᵢ, where it begins.
    """

    def __init__(
        self,
        links: int,
        v: float,
        v_range: tuple[float, float],
        doubles: bool = True,
        name: str = "run",
        free: bool = False,
    ) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(1)) if doubles else None
        self.m = nn.Parameter(torch.zeros(1))
        self.v = nn.ParameterList([nn.Parameter(torch.full((1,), v)) for _ in range(links)])
        self.u = nn.ParameterList([nn.Parameter(torch.full((1,), 1 - v)) for _ in range(links)]) if free else None
        self.v_range, self.name = v_range, name
        self._read: tuple[Any, list[float]] = (None, [])  # which v, as they were when they were read; and as numbers
        self._others: list[WiredRun] = [self]  # whose v are read with its own

    def links(self, bodies: Bodies) -> list[WiredCoupling]:
        """The bodies, wired by this run's scalars."""
        readings = [partial(self._reading, i) for i in range(len(self.v))]
        if self.u is None:
            scalars = zip(bodies, self.v, readings, strict=True)
            return [WiredCoupling(body, v, self.v_range, reading) for body, v, reading in scalars]
        both = zip(bodies, self.v, self.u, readings, strict=True)
        return [FreeCoupling(body, v, self.v_range, u, reading) for body, v, u, reading in both]

    def read_together(self, runs: Sequence["WiredRun"]) -> None:
        """Read the vᵢ of all these runs whenever those of one are read; so one wait serves a network."""
        self._others = list(runs)  # a list, which registers no module

    def _reading(self, index: int) -> float:
        """The raw vᵢ as a number. All are read at once, and again only when one has been changed.

        A number from a GPU has to be waited for, and everything before it too; so a training step waits once, before
        it has asked for much, and not for every link of every evaluation.
        """
        if self._read[0] != self._marks():
            where = self.v[0].device
            stale = [run for run in self._others if run._read[0] != run._marks() and run.v[0].device == where]
            numbers = iter(torch.cat([v.detach().to(torch.float64) for run in stale for v in run.v]).tolist())
            for run in stale:
                run._read = (run._marks(), [next(numbers) for _ in run.v])
        return self._read[1][index]

    def _marks(self) -> list[tuple[int, int]]:
        """Which v these are and how often they were changed; in an evaluation the parameters are other objects."""
        return [(v.data_ptr(), v._version) for v in self.v]

    def forward(
        self, state: Tensor | Pair, bodies: Bodies, extras: Extras, memory: BlockMemory, stored: int = 0
    ) -> tuple[Tensor, Pair]:
        """Run the bodies, each called as ``body(x1, *extras[i])``.

        Args:
            state: h, (B, C, H, W), or the pair that an earlier run ended with.
            bodies: F of each link.
            extras: their side inputs.
            memory: what the backward pass stores of the links.
            stored: how many links at the end are stored whole, whatever ``memory`` says of the others.

        Returns:
            The merged stream, (B, C, H, W), and the pair.
        """
        links = self.links(bodies)
        replay = ATTENTION if memory.keep_attention else ()
        pair = state if self.s is None else (state, self.s * state)
        cut = len(links) - stored
        for part, kind in ((slice(0, cut), memory.kind), (slice(cut, None), "store")):
            if links[part]:
                chain = ReversibleChain(links[part], stream_dtype=memory.stream_dtype, name=self.name)
                pair = chain(*pair, extras[part], memory=kind, replay=replay, drift=memory.drift)
        return pair[0] + self.m * pair[1], pair


class PlainRun(nn.Module):
    """The same bodies one after another, not reversible: what the wiring is compared with."""

    def forward(
        self, state: Tensor, bodies: Bodies, extras: Extras, memory: BlockMemory, stored: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Run the bodies, each called as ``body(h, *extras[i])``; as :class:`WiredRun`, the stream for the pair."""
        h, cut = state, len(bodies) - stored
        for i, (body, side) in enumerate(zip(bodies, extras, strict=True)):
            h = memory.call(body, h, *side) if i < cut else body(h, *side)
        return h, h

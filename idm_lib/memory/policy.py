"""What a backward pass stores and what it computes again: one object, chosen by the caller, passed to the model."""

from dataclasses import dataclass
from typing import Self

import torch

from idm_lib.errors import InputError
from idm_lib.reversible.rounding import AUTO, checked_stream_dtype

KINDS = ("store", "checkpoint", "invert")
ALL = "all"
NAMES = ("store", "paper", "least", "lean", "default", "fast")


@dataclass(frozen=True)
class MemoryPolicy:
    """How the two levels of the chain, the steps and the blocks within them, are back-propagated.

    Gradients are the same for every policy, up to rounding; memory and time are not. For T steps, a layer inside
    inverted blocks inside recomputed steps is evaluated 3 − k/T times, where k is ``keep_steps``.

    Attributes:
        steps: ``"store"`` everything inside a step; ``"checkpoint"`` each step's input, two grey images, and compute
            the step again; or ``"invert"`` the steps.
        blocks: the same choice for the chains inside the network.
        keep_steps: how many steps, the last ones, keep what their chains need instead of being computed again;
            ``"all"`` for every step, whatever T is. The last step's is needed at once, so 1 costs no memory.
        keep_attention: keep what attention returns and do not compute it again, at either level.
        streams: what inverted blocks hold their streams in, as ``stream_dtype`` of
            :class:`~idm_lib.reversible.ReversibleChain`: ``"auto"`` cures rounding where bodies run in half
            precision, ``"input"`` does not, ``"exact"`` and floating-point dtypes are taken at their word.
        slices: that the feed-forward after each attention is computed in, one after another, each computed once more
            in the backward pass: its inside is the largest of all bodies'. 1 for none.

    Raises:
        InputError: a kind is unknown, ``keep_steps`` is not a number of steps, ``streams`` are of no known kind, or
            ``slices`` is not at least 1.
    """

    steps: str = "checkpoint"
    blocks: str = "invert"
    keep_steps: int | str = 1
    keep_attention: bool = True
    streams: torch.dtype | str = AUTO
    slices: int = 1

    def __post_init__(self) -> None:
        for level in ("steps", "blocks"):
            if getattr(self, level) not in KINDS:
                raise InputError(f"expected {level} as one of {', '.join(KINDS)}, got {getattr(self, level)!r}")
        number = isinstance(self.keep_steps, int) and not isinstance(self.keep_steps, bool) and self.keep_steps >= 0
        if not number and self.keep_steps != ALL:
            raise InputError(
                f"expected keep_steps as a number of steps, got {self.keep_steps!r}: 0 keeps none, {ALL!r} all"
            )
        if not isinstance(self.keep_attention, bool):
            raise InputError(f"expected keep_attention as True or False, got {self.keep_attention!r}")
        checked_stream_dtype(self.streams)
        if isinstance(self.slices, bool) or not isinstance(self.slices, int) or self.slices < 1:
            raise InputError(f"expected slices as a whole number of at least 1, got {self.slices!r}")

    def kept_steps(self, steps: int) -> int:
        """How many of ``steps`` are kept whole; none where all are stored anyway."""
        if self.steps == "store":
            return 0
        return steps if self.keep_steps == ALL else min(self.keep_steps, steps)

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the policy of that name: store, paper, least, lean, default or fast.

        Raises:
            InputError: there is none.
        """
        if name not in NAMES:
            raise InputError(f"expected a policy out of {', '.join(NAMES)}, got {name!r}")
        return getattr(cls, name)()

    @classmethod
    def of(cls, given: "MemoryPolicy | str | None") -> "MemoryPolicy":
        """Return the policy that is given itself, by its name or, as None, by default.

        Raises:
            InputError: it is none of these, or there is none of that name.
        """
        if isinstance(given, str):
            return cls.named(given)
        if given is not None and not isinstance(given, MemoryPolicy):
            raise InputError(f"expected a MemoryPolicy or the name of one, got {type(given).__name__}")
        return cls() if given is None else given

    @classmethod
    def store(cls) -> Self:
        """Plain backpropagation: every activation stored, nothing computed twice."""
        return cls(steps="store", blocks="store", keep_steps=0, keep_attention=False)

    @classmethod
    def paper(cls) -> Self:
        """The paper's: both levels inverted."""
        return cls(steps="invert", blocks="invert", keep_steps=0, keep_attention=False)

    @classmethod
    def lean(cls) -> Self:
        """Steps checkpointed, blocks inverted, attention computed again: no drift between steps, little memory."""
        return cls(steps="checkpoint", blocks="invert", keep_steps=1, keep_attention=False)

    @classmethod
    def least(cls) -> Self:
        """Like :meth:`lean`, with the feed-forward after each attention in slices: the least memory of all."""
        return cls(steps="checkpoint", blocks="invert", keep_steps=1, keep_attention=False, slices=16)

    @classmethod
    def default(cls) -> Self:
        """Like :meth:`lean`, with attention's results kept: little more memory, much less time."""
        return cls()

    @classmethod
    def fast(cls) -> Self:
        """Like :meth:`default`, with every step kept: each layer is evaluated twice, however many steps there are."""
        return cls(keep_steps=ALL)

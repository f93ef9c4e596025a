"""One call of a chain, described: everything that is not a tensor, and the tensors kept for its backward pass."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from idm_lib.reversible.ambient import Ambient
from idm_lib.reversible.couplings import Coupling
from idm_lib.reversible.drift import DriftLog
from idm_lib.reversible.parameters import Slot
from idm_lib.reversible.rounding import Plan


@dataclass(frozen=True)
class Ref:
    """Stands for a tensor among a link's extras: its number among the Function's tensors."""

    number: int


@dataclass(frozen=True)
class Spec:
    """Everything about one call of a chain that is not a tensor.

    Attributes:
        links: the couplings, first applied first.
        labels: a name for each, for messages.
        slots: for each, where its parameters live and their numbers among the tensors.
        extras: for each, its side inputs; tensors as :class:`Ref`.
        plan: how streams are held, and where anchors are.
        ambient: autocast state and device.
        replay: names of operations whose results are kept.
        drift: what watches the reconstruction, if anything.
    """

    links: tuple[Coupling, ...]
    labels: tuple[str, ...]
    slots: tuple[tuple[Slot, ...], ...]
    extras: tuple[tuple[Any, ...], ...]
    plan: Plan
    ambient: Ambient
    replay: frozenset[str] = frozenset()
    drift: DriftLog | None = None

    def filled(self, index: int, tensors: Mapping[int, Tensor] | Sequence[Tensor]) -> list[Any]:
        """Return the side inputs of link ``index``, taking tensors by number from ``tensors``."""
        return [tensors[extra.number] if isinstance(extra, Ref) else extra for extra in self.extras[index]]

    def numbers(self, index: int) -> list[int]:
        """Return the numbers of the tensors that link ``index`` uses, each once."""
        side = [extra.number for extra in self.extras[index] if isinstance(extra, Ref)]
        return list(dict.fromkeys([*side, *(number for _, _, number in self.slots[index])]))


class Tape(dict[Hashable, tuple[Tensor, ...]]):
    """What a forward pass keeps beside the tensors it was given, by name; all of it goes to ``save_for_backward``."""

    def flat(self) -> tuple[list[tuple[Hashable, int]], list[Tensor]]:
        """Return the names with their lengths, and the tensors in one list."""
        return [(key, len(group)) for key, group in self.items()], [t for group in self.values() for t in group]

    @classmethod
    def from_flat(cls, layout: Sequence[tuple[Hashable, int]], tensors: Sequence[Tensor]) -> "Tape":
        """Undo :meth:`flat`."""
        tape, position = cls(), 0
        for key, length in layout:
            tape[key] = tuple(tensors[position : position + length])
            position += length
        return tape

"""What a chain has in memory at each moment of a training step: the model that the diagrams draw and count.

The engine's own order of evaluations and its bytes, as the meter counts them, are held against this in the tests.
"""

from dataclasses import dataclass

from idm_lib.errors import InputError

STREAMS, GRADIENTS, INSIDE = ("x1", "x2"), ("g1", "g2"), "inside"


@dataclass(frozen=True)
class Held:
    """One thing in memory.

    Attributes:
        kind: ``x1`` or ``x2``, a stream; ``g1`` or ``g2``, its gradient; ``inside``, what autograd needs of a body.
        at: for an inside the link, counted from 1; for all else the place before link ``at + 1``, counted from 0.
    """

    kind: str
    at: int


@dataclass(frozen=True)
class Moment:
    """One moment of a training step.

    Attributes:
        doing: ``start``; ``forward``: link ``link`` has been applied; ``loss``: gradients of the end have come;
            ``evaluate``: the body has been evaluated once more, with a graph; ``rebuild``: its input has been solved
            for; ``differentiate``: gradients have passed through the link.
        link: which link, 0 for none.
        held: what is in memory, in a fixed order.
    """

    doing: str
    link: int
    held: tuple[Held, ...]

    def count(self, *kinds: str) -> int:
        """How many things of these kinds are in memory."""
        return sum(one.kind in kinds for one in self.held)


def training_step(links: int, memory: str) -> list[Moment]:
    """Return the moments of one training step.

    Args:
        links: of the chain, at least 1.
        memory: as in :class:`~idm_lib.reversible.ReversibleChain`.

    Raises:
        InputError: there is no link, or ``memory`` is unknown.
    """
    if links < 1:
        raise InputError(f"expected at least one link, got {links}")
    if memory not in ("store", "checkpoint", "invert"):
        raise InputError(f"expected memory as store, checkpoint or invert, got {memory!r}")
    moments = []

    def note(doing: str, link: int, streams: tuple[Held, ...], gradients: int | None, insides: range) -> None:
        its = () if gradients is None else tuple(Held(kind, gradients) for kind in GRADIENTS)
        moments.append(Moment(doing, link, (*streams, *its, *(Held(INSIDE, k) for k in insides))))

    def stored(last: int) -> tuple[Held, ...]:
        """The streams beside the insides with links up to ``last`` applied: x2 is x1 of the place before."""
        if memory != "checkpoint" or last == 0:
            return _pair(last)
        return (Held("x2", 0), *(Held("x1", k) for k in range(last + 1)))

    def insides(last: int) -> range:
        return range(1, last + 1) if memory == "store" else range(0)

    note("start", 0, stored(0), None, insides(0))
    for k in range(1, links + 1):
        note("forward", k, stored(k), None, insides(k))
    note("loss", 0, stored(links), links, insides(links))
    for k in range(links, 0, -1):
        if memory != "store":
            here = range(k, k + 1)
            known = (Held("x1", k), Held("x1", k - 1)) if memory == "invert" else stored(k)
            note("evaluate", k, known, k, here)
            if memory == "invert":
                note("rebuild", k, _pair(k - 1), k, here)
        # With everything stored, what is needed of a stream is part of an inside.
        note("differentiate", k, () if memory == "store" else stored(k - 1), k - 1, insides(k - 1))
    return moments


def evaluations(moments: list[Moment]) -> list[int]:
    """The links in the order in which their bodies are evaluated."""
    return [moment.link for moment in moments if moment.doing in ("forward", "evaluate")]


def most(moments: list[Moment], *kinds: str) -> int:
    """The most things of these kinds that are in memory at any moment."""
    return max(moment.count(*kinds) for moment in moments)


def _pair(at: int) -> tuple[Held, ...]:
    return tuple(Held(kind, at) for kind in STREAMS)

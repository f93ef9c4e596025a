"""Which streams a chain uses, and where it stores an anchor: the cures for rounding, chosen before the first link.

Inverting a link multiplies an error by 1/v where F's slope is one, by √(1/v) where F is flat, and by more where it is
steeper (tests/reversible/test_drift.py has the formula). With bodies in half precision there is worse: an error far
below a body's resolution still moves now and then an input across a rounding boundary, where F jumps by a whole unit
ε_b of its own. An error δ does so with probability δ/ε_b, so links that amplify by A in all turn the streams' own
rounding ε_s into a root mean square of about A·√(ε_s·ε_b), not A·ε_s. That stays below ε_b, the error which the
bodies' precision makes anyway, while A <= √(ε_b/ε_s): with float64 streams 2^22 for bfloat16, 2^21 for float16; with
float32 streams 2^8 and 2^6.5. AUTO applies this rule, with an anchor where the product of 1/v would pass the limit:
in float32 streams or in float64, whichever stores fewer bytes. So a few links at v = 0.5 need no cure, a dozen an
anchor, and long chains float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from idm_lib.errors import InputError
from idm_lib.reversible.ambient import HALF_DTYPES, Ambient
from idm_lib.reversible.couplings import Coupling
from idm_lib.reversible.streams import ExactStreams, FloatStreams, Streams

AUTO = "auto"
EXACT = "exact"
INPUT = "input"
MEMORY = ("store", "checkpoint", "invert")


@dataclass(frozen=True)
class Plan:
    """How one call of a chain holds its streams.

    Attributes:
        io_dtype: dtype of the tensors that come in and go out, and that bodies are given.
        stream_dtype: floating-point dtype of the streams; None for bit-exact streams.
        weights: (a, b) of every link, for bit-exact streams only.
        anchors: numbers of the links whose input pair is stored, so that nothing above them is inverted to get it.
    """

    io_dtype: torch.dtype
    stream_dtype: torch.dtype | None
    weights: tuple[tuple[float, float], ...]
    anchors: frozenset[int]

    @property
    def gradient_dtype(self) -> torch.dtype:
        """Dtype in which the streams' gradients are summed: that of the tensors, float32 at least."""
        return torch.promote_types(self.io_dtype, torch.float32)

    def streams(self, words: Sequence[torch.Tensor] = ()) -> Streams:
        """Return the arithmetic for one pass."""
        return FloatStreams(self.stream_dtype) if self.stream_dtype else ExactStreams(self.weights, words)


def checked_stream_dtype(stream_dtype: torch.dtype | str) -> torch.dtype | str:
    """Return what was given.

    Raises:
        InputError: neither a floating-point dtype nor one of the names.
    """
    if isinstance(stream_dtype, torch.dtype) and stream_dtype.is_floating_point:
        return stream_dtype
    if isinstance(stream_dtype, str) and stream_dtype in (AUTO, EXACT, INPUT):
        return stream_dtype
    raise InputError(f"expected stream_dtype as a floating dtype, 'auto', 'exact' or 'input', got {stream_dtype!r}")


def make_plan(
    links: Sequence[Coupling],
    io_dtype: torch.dtype,
    ambient: Ambient,
    memory: str,
    stream_dtype: torch.dtype | str,
    anchor_every: int | None,
) -> Plan:
    """Choose the streams' dtype and the anchors for one call.

    Raises:
        InputError: bit-exact streams are asked of a coupling whose mixing has no fixed weights.
    """
    everywhere = frozenset(range(len(links)))
    if memory != "invert":
        # Nothing is inverted, so there is nothing to cure; a dtype that was asked for is still used.
        dtype = stream_dtype if isinstance(stream_dtype, torch.dtype) else io_dtype
        return Plan(io_dtype, dtype, (), everywhere if memory == "checkpoint" else frozenset())
    every = frozenset(range(0, len(links), anchor_every)) - {0} if anchor_every else frozenset()
    if stream_dtype == EXACT:
        return Plan(io_dtype, None, _fixed_weights(links), frozenset())
    if stream_dtype != AUTO:
        return Plan(io_dtype, io_dtype if stream_dtype == INPUT else stream_dtype, (), every)
    body_dtype = ambient.half_dtype or (io_dtype if io_dtype in HALF_DTYPES else None)
    if body_dtype is None:
        return Plan(io_dtype, io_dtype, (), every)
    if anchor_every is not None:
        return Plan(io_dtype, torch.float64, (), every)
    dtype, every = leanest_cure([link.amplification() for link in links], io_dtype, body_dtype)
    return Plan(io_dtype, dtype, (), every)


def leanest_cure(
    amplifications: Sequence[float], io_dtype: torch.dtype, body_dtype: torch.dtype
) -> tuple[torch.dtype, frozenset[int]]:
    """Return the streams' dtype, no less than ``io_dtype``, and the anchors that together store the fewest bytes.

    What is stored is a pair at the end and one at each anchor; float32 where both dtypes store the same.
    """
    dtypes = [dtype for dtype in (torch.float32, torch.float64) if torch.promote_types(dtype, io_dtype) == dtype]
    cures = [(dtype, anchors_for(amplifications, body_dtype, dtype)) for dtype in dtypes]
    return min(cures, key=lambda cure: cure[0].itemsize * (1 + len(cure[1])))


def anchors_for(
    amplifications: Sequence[float], body_dtype: torch.dtype, stream_dtype: torch.dtype = torch.float64
) -> frozenset[int]:
    """Return the links to store an anchor at, so that rebuilt streams stay below the bodies' own rounding.

    Args:
        amplifications: each link's 1/v, first link first.
        body_dtype: precision in which the bodies are evaluated.
        stream_dtype: precision in which the streams are held.
    """
    limit = math.sqrt(torch.finfo(body_dtype).eps / torch.finfo(stream_dtype).eps)
    anchors, product = set(), 1.0
    for index in reversed(range(len(amplifications))):
        if product * amplifications[index] > limit and product > 1.0:
            anchors.add(index + 1)  # the pair above this link is stored, and the count begins afresh from there
            product = 1.0
        product *= max(amplifications[index], 1.0)
    return frozenset(anchors)


def _fixed_weights(links: Sequence[Coupling]) -> tuple[tuple[float, float], ...]:
    found = []
    for index, link in enumerate(links):
        weights = link.weights()
        if weights is None or not 0 < weights[1] <= 1:
            raise InputError(
                f"expected couplings with fixed weights, y1 = a·F + b·x2 and 0 < b <= 1, for bit-exact streams; got "
                f"{type(link).__name__} with {weights} at link {index}: use WiredCoupling or AdditiveCoupling, or "
                f"stream_dtype=torch.float64"
            )
        found.append(weights)
    return tuple(found)

"""How the two streams are held between bodies: in floating point, or in fixed point without any loss.

Both kinds answer to the same four calls. ``encode`` and ``decode`` lead from a tensor to a stream and back;
``mix`` and ``unmix`` are a link's arithmetic once F's result is known.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from idm_lib.reversible.couplings import Coupling


class Streams(Protocol):
    """A representation of the streams, used for one pass over a chain's links, either up or down."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the stream for the tensor ``x``."""

    def decode(self, stream: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the tensor that ``stream`` stands for."""

    def mix(self, index: int, link: Coupling, f: Tensor, stream: Tensor) -> Tensor:
        """Return link number ``index``'s y1 from F's result and its second stream."""

    def unmix(self, index: int, link: Coupling, f: Tensor, stream: Tensor) -> Tensor:
        """Return link number ``index``'s x2 from F's result and its y1."""


class FloatStreams:
    """Streams in a floating-point ``dtype``: an inversion multiplies their rounding error by about 1/v."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def encode(self, x: Tensor) -> Tensor:
        """Return ``x`` in the streams' dtype."""
        return x.to(self.dtype)

    def decode(self, stream: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the stream in ``dtype``."""
        return stream.to(dtype)

    def mix(self, index: int, link: Coupling, f: Tensor, stream: Tensor) -> Tensor:
        """Mix in the streams' dtype."""
        return link.mix(f, stream)

    def unmix(self, index: int, link: Coupling, f: Tensor, stream: Tensor) -> Tensor:
        """Unmix in the streams' dtype."""
        return link.unmix(f, stream)


FRACTION_BITS = 46  # a stream counts multiples of 2^-46 ...
LIMIT = 2.0**16  # ... below 2^16, which float16 cannot pass either; a sum of two still fits int64
V_BITS = 20  # v is used as n / 2^20
_D = 1 << V_BITS
_WORD = 16  # remainders leave for storage in words of sixteen bits
_ROOM = 1 << 62  # and a remainder times 2^20 must stay below this


class ExactStreams:
    """Streams in fixed point with a remainder buffer: the inverse is exact to the last bit, at any depth.

    Multiplying an integer by v = n/d, with n < d, loses log2(d/n) bits. Instead of dropping them, each link pushes
    them on a per-element number, the remainder, and the inverse takes them back (Maclaurin et al., 2015,
    "Gradient-based hyperparameter optimization through reversible learning"). With X = q·d + r, one link does::

        b = b·d + r;   X' = q·n + (b mod n);   b = b div n

    which differs from X·n/d by less than n units, 2^-26 in value, and whose steps undo one another. What bounds the
    remainder is known beforehand and the same for every element, so sixteen bits move to storage exactly when they
    must: log2(1/v) bits an element and link, a thirty-second of a float32 activation at v = 0.5.

    Args:
        weights: (a, b) of every link, y1 = a·f + b·x2: 1 − v and v, or 1 and 1 (the sum is exact as it is).
        words: what :meth:`close` returned, to walk the links in reverse order with :meth:`unmix`.

    A value that is not finite, or not below 2^16, sets :attr:`outside`; the caller must then not use the result.
    """

    def __init__(self, weights: Sequence[tuple[float, float]], words: Sequence[Tensor] = ()) -> None:
        self.scales = [a for a, _ in weights]
        self.ratios = [max(1, round(b * _D)) for _, b in weights]
        self.pushes, self.pushes_at_end = schedule(self.ratios)
        self.outside: Tensor | None = None
        self._words = list(words)
        self._remainder: Tensor | None = None
        self._closed = bool(words)

    def encode(self, x: Tensor) -> Tensor:
        """Return ``x`` as a multiple of 2^-46, int64."""
        return self._fixed(x, 1.0)

    def decode(self, stream: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the value of ``stream``."""
        return (stream.to(torch.float64) * 2.0**-FRACTION_BITS).to(dtype)

    def mix(self, index: int, link: Coupling, f: Tensor, stream: Tensor) -> Tensor:
        """Return a·f + (n/d)·x2; what the multiplication loses goes to the remainder."""
        n = self.ratios[index]
        if n != _D:
            remainder = torch.zeros_like(stream) if self._remainder is None else self._remainder
            for _ in range(self.pushes[index]):
                remainder = self._push(remainder)
            remainder = (remainder << V_BITS) + (stream & (_D - 1))
            stream = (stream >> V_BITS) * n + remainder % n
            self._remainder = torch.div(remainder, n, rounding_mode="floor")
        stream = stream + self._fixed(f, self.scales[index])
        if n == _D:  # a sum can grow; a weighted mean cannot
            self._flag(~(stream.abs() < int(LIMIT) << FRACTION_BITS).all())
        return stream

    def unmix(self, index: int, link: Coupling, f: Tensor, stream: Tensor) -> Tensor:
        """Undo :meth:`mix` to the last bit; links come in reverse order."""
        n = self.ratios[index]
        stream = stream - self._fixed(f, self.scales[index])
        if n == _D:
            return stream
        remainder = torch.zeros_like(stream) if self._remainder is None else self._remainder
        if self._closed:
            for _ in range(self.pushes_at_end):
                remainder = self._pop(remainder)
            self._closed = False
        quotient = torch.div(stream, n, rounding_mode="floor")
        remainder = remainder * n + (stream - quotient * n)
        stream = (quotient << V_BITS) + (remainder & (_D - 1))
        remainder = remainder >> V_BITS
        for _ in range(self.pushes[index]):
            remainder = self._pop(remainder)
        self._remainder = remainder
        return stream

    def close(self) -> tuple[Tensor, ...]:
        """Move the whole remainder to storage and return all words, int16 and of the streams' shape."""
        for _ in range(self.pushes_at_end):
            self._remainder = self._push(self._remainder)
        return tuple(self._words)

    def _push(self, remainder: Tensor) -> Tensor:
        self._words.append(remainder.to(torch.int16))  # keeps the low sixteen bits
        return remainder >> _WORD

    def _pop(self, remainder: Tensor) -> Tensor:
        return (remainder << _WORD) + (self._words.pop().to(torch.int64) & 0xFFFF)

    def _fixed(self, x: Tensor, scale: float) -> Tensor:
        self._flag(~(x.abs() < LIMIT).all())  # also true for NaN
        return (x.to(torch.float64) * (scale * 2.0**FRACTION_BITS)).round_().to(torch.int64)

    def _flag(self, outside: Tensor) -> None:
        self.outside = outside if self.outside is None else self.outside | outside


def schedule(ratios: Sequence[int]) -> tuple[list[int], int]:
    """Return how many words each link must push before its step, and how many the end pushes.

    From the remainder's largest possible value alone, so the same for all elements, with or without data.
    """
    largest = 0
    pushes = []
    for n in ratios:
        count = 0
        while (largest + 1) * _D > _ROOM:
            largest >>= _WORD
            count += 1
        pushes.append(count)
        if n != _D:
            largest = (largest * _D + _D - 1) // n
    at_end = 0
    while largest > 0:
        largest >>= _WORD
        at_end += 1
    return pushes, at_end

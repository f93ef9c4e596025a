"""Invertible couplings: two streams in, two streams out, and one network evaluation either way.

Every coupling here has the same shape. The first stream passes through unchanged, and the second is mixed
with what the *body* F makes of the first::

    y1 = mix(F(x1), x2)        x1 = y2
    y2 = x1                    x2 = unmix(F(y2), y1)

F itself is never inverted, so it can be any network whose output has the stream's shape. Because ``mix`` and
``unmix`` take F's *result*, one evaluation of F serves the inverse and the gradients alike; the chain
(:mod:`idm_lib.reversible.chain`) relies on that.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.reversible.ambient import has_data

V_RANGE = (0.1, 0.9)


class Coupling(nn.Module, ABC):
    """One invertible link made of an arbitrary body.

    Args:
        body: called as ``body(x1, *extras)``; returns what :meth:`mix` expects (for most couplings a tensor
            of the stream's shape). An ``nn.Module``, or a function without parameters.

    A subclass says how F's result and the second stream are mixed, in :meth:`mix` and :meth:`unmix`.
    """

    def __init__(self, body: Callable[..., Tensor]) -> None:
        super().__init__()
        self.body = body

    @abstractmethod
    def mix(self, f: Tensor, x2: Tensor) -> Tensor:
        """Return y1 from F's result ``f`` and the second stream ``x2``, in ``x2``'s dtype."""

    @abstractmethod
    def unmix(self, f: Tensor, y1: Tensor) -> Tensor:
        """Return x2 from F's result ``f`` and the mixed stream ``y1``, in ``y1``'s dtype."""

    def weights(self) -> tuple[float, float] | None:
        """Return (a, b) where y1 = a·f + b·x2 with fixed numbers, else None: what bit-exact streams need."""
        return None

    def amplification(self) -> float:
        """How much :meth:`unmix` multiplies an error in ``y1`` by (at most, or as near as is known)."""
        weights = self.weights()
        return 1.0 if weights is None else 1.0 / weights[1]

    def forward(self, x1: Tensor, x2: Tensor, *extras: object) -> tuple[Tensor, Tensor]:
        """Map the streams ``(x1, x2)`` to ``(y1, y2)``; all four have one shape, e.g. (B, C, H, W)."""
        return self.mix(self.body(x1, *extras), x2), x1

    def inverse(self, y1: Tensor, y2: Tensor, *extras: object) -> tuple[Tensor, Tensor]:
        """Map ``(y1, y2)`` back to ``(x1, x2)``, up to rounding."""
        return y2, self.unmix(self.body(y2, *extras), y1)


class WiredCoupling(Coupling):
    """The paper's wiring of a module F with a learnable scalar v: y1 = (1−v)·F(x1) + v·x2, y2 = x1.

    Its inverse divides by v, so rounding errors grow by 1/v a link; v is therefore kept in ``v_range``.
    The *raw* v is the parameter, and what is used is ``v + (clamp(v, lo, hi) − v).detach()``: a raw value
    outside the range acts as the nearest bound yet still receives the gradient, and state dicts round-trip.

    Args:
        body: F, called as ``body(x1, *extras)``; keeps the stream's shape.
        v: the value at the start, or an existing parameter of shape [1], which is used as is (tied).
        v_range: bounds ``(lo, hi)`` on the effective value, 0 < lo <= hi. A number given outside widens it, with
            a warning. A parameter given does not, since a raw value may leave the range in training; use
            :func:`widened_range` on imported weights.
        reading: gives the raw v as a number, from an owner who reads many of them at once: a number from a GPU has to
            be waited for. It serves :meth:`amplification` alone, which only has to be near.

    Raises:
        InputError: v is not finite and positive, or the range is not ``0 < lo <= hi``.
    """

    def __init__(
        self,
        body: Callable[..., Tensor],
        v: float | Tensor = 0.5,
        v_range: tuple[float, float] = V_RANGE,
        reading: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(body)
        self._reading = reading
        if isinstance(v, nn.Parameter):
            self.v = v
        elif isinstance(v, Tensor):
            # A functional call (torch.func) puts plain tensors where parameters were: take them as they are.
            self.register_parameter("v", None)
            self._parameters["v"] = v  # type: ignore[assignment]
        else:
            v_range = widened_range([v], v_range)
            self.v = nn.Parameter(torch.tensor([float(v)]))
        if self.v.shape != (1,):
            raise InputError(f"expected v of shape [1], got {list(self.v.shape)}: one scalar wires one module")
        self.v_range = _checked_range(v_range)

    def effective_v(self) -> Tensor:
        """The v that is used: the raw parameter held in ``v_range``, with the gradient passed straight through."""
        return self.v + (self.v.clamp(*self.v_range) - self.v).detach()  # [1]

    def mix(self, f: Tensor, x2: Tensor) -> Tensor:
        """Return (1−v)·f + v·x2."""
        v = self.effective_v().to(x2.dtype)
        return (1 - v) * f.to(x2.dtype) + v * x2

    def unmix(self, f: Tensor, y1: Tensor) -> Tensor:
        """Return (y1 − (1−v)·f) / v."""
        v = self.effective_v().to(y1.dtype)
        return (y1 - (1 - v) * f.to(y1.dtype)) / v

    def weights(self) -> tuple[float, float]:
        """Return (1−v, v); where v holds no data (meta, fake), the middle of its range stands in."""
        lo, hi = self.v_range
        v = min(max(float(self.v.detach()), lo), hi) if has_data(self.v) else (lo + hi) / 2
        return 1 - v, v

    def amplification(self) -> float:
        """Return 1/v, by ``reading`` if there is one."""
        if self._reading is None or not has_data(self.v):
            return super().amplification()
        lo, hi = self.v_range
        return 1 / min(max(self._reading(), lo), hi)

    def extra_repr(self) -> str:
        """Show the range beside the body."""
        return f"v_range={self.v_range}"


class AdditiveCoupling(Coupling):
    """The additive coupling of NICE and RevNet: y1 = x2 + F(x1), y2 = x1. Errors are not amplified."""

    def mix(self, f: Tensor, x2: Tensor) -> Tensor:
        """Return x2 + f."""
        return x2 + f.to(x2.dtype)

    def unmix(self, f: Tensor, y1: Tensor) -> Tensor:
        """Return y1 − f."""
        return y1 - f.to(y1.dtype)

    def weights(self) -> tuple[float, float]:
        """Return (1, 1)."""
        return 1.0, 1.0


class AffineCoupling(Coupling):
    """The affine coupling of RealNVP: y1 = x2·exp(s) + t with (s, t) = F(x1), y2 = x1.

    Args:
        body: returns twice the stream's channels: (B, 2C, …), first the log-scales s, then the shifts t.
        max_log_scale: bound on s (by a scaled tanh), so that one link amplifies errors by at most its exponential.

    Raises:
        InputError: ``max_log_scale`` is not positive, or the body's result has the wrong number of channels.
    """

    def __init__(self, body: Callable[..., Tensor], max_log_scale: float = 2.0) -> None:
        super().__init__(body)
        if not (max_log_scale > 0 and math.isfinite(max_log_scale)):
            raise InputError(f"expected a positive max_log_scale, got {max_log_scale}: 2.0 is usual")
        self.max_log_scale = float(max_log_scale)

    def mix(self, f: Tensor, x2: Tensor) -> Tensor:
        """Return x2·exp(s) + t."""
        s, t = self._scale_and_shift(f, x2)
        return x2 * s.exp() + t

    def unmix(self, f: Tensor, y1: Tensor) -> Tensor:
        """Return (y1 − t)·exp(−s)."""
        s, t = self._scale_and_shift(f, y1)
        return (y1 - t) * (-s).exp()

    def amplification(self) -> float:
        """The largest exp(−s) that the bound allows."""
        return math.exp(self.max_log_scale)

    def _scale_and_shift(self, f: Tensor, stream: Tensor) -> tuple[Tensor, Tensor]:
        if f.shape[1] != 2 * stream.shape[1]:
            raise InputError(
                f"expected the body of an affine coupling to return {2 * stream.shape[1]} channels (scales, then "
                f"shifts), got {f.shape[1]}: double its last layer's output"
            )
        s, t = f.to(stream.dtype).chunk(2, dim=1)  # each (B, C, ...)
        return self.max_log_scale * torch.tanh(s / self.max_log_scale), t


def widened_range(values: Iterable[float], v_range: tuple[float, float] = V_RANGE) -> tuple[float, float]:
    """Return ``v_range``, widened with a warning so that it holds every value: for imported weights.

    Raises:
        InputError: a value is not finite and positive (no inverse exists at 0), or the range is not 0 < lo <= hi.
    """
    lo, hi = _checked_range(v_range)
    for value in map(float, values):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"expected v > 0, got {value}: the wiring divides by v, and 0.5 is the usual start")
        if not lo <= value <= hi:
            warnings.warn(
                f"v = {value:.4g} lies outside its range ({lo:.4g}, {hi:.4g}): the range is widened to hold it; "
                f"an inverse now amplifies rounding up to {1 / min(lo, value):.4g} times a link",
                stacklevel=3,
            )
            lo, hi = min(lo, value), max(hi, value)
    return lo, hi


def _checked_range(v_range: tuple[float, float]) -> tuple[float, float]:
    lo, hi = (float(bound) for bound in v_range)
    if not (0 < lo <= hi and math.isfinite(hi)):
        raise InputError(f"expected v_range with 0 < lo <= hi, got ({lo}, {hi}): the default is {V_RANGE}")
    return lo, hi

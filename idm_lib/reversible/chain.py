"""A chain of invertible links, with a choice of what its backward pass stores and what it recomputes."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.reversible.ambient import Ambient
from idm_lib.reversible.couplings import Coupling
from idm_lib.reversible.drift import DriftLog
from idm_lib.reversible.forward import run
from idm_lib.reversible.function import ReversibleFunction
from idm_lib.reversible.parameters import parameters_of, refuse_batch_norm, turns
from idm_lib.reversible.rounding import AUTO, EXACT, MEMORY, checked_stream_dtype, make_plan
from idm_lib.reversible.spec import Ref, Spec

Extras = Sequence[Sequence[Any]]


class ReversibleChain(nn.Module):
    """Links applied one after another: ``h1, h2 = chain(x1, x2, extras=[(), (skip,), ...], memory="invert")``.

    Args:
        links: couplings; one may occur several times, and modules may be shared between links and chains.
        stream_dtype: how the streams are held when they are to be inverted. A floating-point dtype, also used by the
            other kinds of memory; ``"exact"``: fixed point with a remainder buffer, no drift at any depth, log2(1/v)
            bits an element and link; ``"input"``: the inputs' dtype; ``"auto"`` (None means the same): the inputs'
            dtype, but with anchors or in float64 where that is needed when bodies run in half precision.
        anchor_every: store the pair of streams before every so many links, so that errors grow no further than that;
            0 for never; None leaves it to ``stream_dtype``.
        name: for messages and drift logs.

    Bodies are given tensors of the inputs' dtype, and outputs have it, whatever the streams are held in.

    Raises:
        InputError: a link is not a :class:`Coupling`, or an option is unknown.
    """

    def __init__(
        self,
        links: Iterable[Coupling],
        *,
        stream_dtype: torch.dtype | str | None = None,
        anchor_every: int | None = None,
        name: str = "chain",
    ) -> None:
        super().__init__()
        links = list(links)
        for index, link in enumerate(links):
            if not isinstance(link, Coupling):
                raise InputError(
                    f"expected couplings, got {type(link).__name__} at position {index}: wrap it, for example in "
                    f"WiredCoupling(body)"
                )
        self.links = nn.ModuleList(links)
        self.stream_dtype = checked_stream_dtype(AUTO if stream_dtype is None else stream_dtype)
        if anchor_every is not None and not (isinstance(anchor_every, int) and anchor_every >= 0):
            raise InputError(f"expected anchor_every as a number of links, got {anchor_every!r}: 0 stores no anchor")
        if anchor_every and self.stream_dtype == EXACT:
            raise InputError("expected bit-exact streams or anchors, got both: exact streams do not drift, leave one")
        self.anchor_every = anchor_every
        self.name = name

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        extras: Extras | None = None,
        memory: str = "invert",
        *,
        replay: Collection[str] = (),
        drift: DriftLog | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Apply every link; all three kinds of memory give the same outputs and gradients, up to rounding.

        Args:
            x1, x2: the streams, of one shape, dtype and device; they may be the same tensor.
            extras: for every link a tuple of side inputs, passed to its body after x1: tensors (gradients reach
                those that need them), None, numbers, objects. A tensor inside a container or object must need no
                gradient; it is refused in the backward pass otherwise.
            memory: ``"store"`` every activation (one evaluation of each body per training step); ``"checkpoint"``:
                store every link's input (two); ``"invert"``: store the ends, rebuild the rest (two).
            replay: names of operations whose results are kept and not computed twice, such as
                :data:`idm_lib.reversible.ATTENTION`.
            drift: watches the error of what inversion rebuilds.

        Returns:
            The streams after the last link, in the inputs' dtype.

        Raises:
            InputError: shapes, devices or extras do not fit; ``memory`` is unknown; with recomputation, a body holds
                batch norm in training mode, or changes a buffer of its own or its input in place.
        """
        if memory not in MEMORY:
            raise InputError(f"expected memory as one of {', '.join(MEMORY)}, got {memory!r}")
        recompute = memory != "store" and len(self.links) > 0 and torch.is_grad_enabled()
        with self._turn():
            spec, tensors = self._prepare(x1, x2, extras, memory, frozenset(replay), drift)
            if not recompute or not any(t.requires_grad for t in (x1, x2, *tensors)):
                return run(spec, x1, x2, tensors)
        for label, link in zip(spec.labels, self.links, strict=True):
            refuse_batch_norm(link, label)
        return ReversibleFunction.apply(spec, x1, x2, *tensors)

    def inverse(self, y1: Tensor, y2: Tensor, extras: Extras | None = None) -> tuple[Tensor, Tensor]:
        """Return the (x1, x2) that :meth:`forward` maps to ``(y1, y2)``, up to rounding; differentiable.

        Floating-point streams only: what bit-exact streams need to run backwards leaves the chain with no output, so
        a chain with ``stream_dtype="exact"`` inverts in float64 here, with v itself. That undoes what
        ``memory="store"`` computes. In its other forward passes each link uses v to 2⁻²¹ and is off by up to 2⁻²⁶
        more, and inverting multiplies both by 1/v a link: for streams and bodies within ±m, bodies of slope one at
        most and n links of one v, the result is off by up to (m·2⁻²¹ + 2⁻²⁶)·v⁻ⁿ / (1 − v). The chain's own backward
        pass pays nothing of this: it has the remainders.

        Raises:
            InputError: shapes, devices or extras do not fit.
        """
        with self._turn():
            spec, tensors = self._prepare(y1, y2, extras, "store", frozenset(), None)
            dtype = spec.plan.stream_dtype if self.stream_dtype != EXACT else torch.float64
            x1, x2 = y1.to(dtype), y2.to(dtype)
            for index in reversed(range(len(self.links))):
                x1, x2 = self._inverse_of(index, spec, tensors, x1, x2)
            return x1.to(spec.plan.io_dtype), x2.to(spec.plan.io_dtype)

    def _turn(self) -> AbstractContextManager[None]:
        """While a graph is built on the parameters, no other thread may have stand-ins in their place."""
        if not torch.is_grad_enabled():
            return nullcontext()
        return turns(module for module in self.modules() if module._parameters)

    def _inverse_of(
        self, index: int, spec: Spec, tensors: Sequence[Tensor], y1: Tensor, y2: Tensor
    ) -> tuple[Tensor, Tensor]:
        f = self.links[index].body(y2.to(spec.plan.io_dtype), *spec.filled(index, tensors))
        return y2, self.links[index].unmix(f, y1)

    def extra_repr(self) -> str:
        """Show how streams are held."""
        return f"stream_dtype={self.stream_dtype}, anchor_every={self.anchor_every}"

    def _prepare(
        self,
        x1: Tensor,
        x2: Tensor,
        extras: Extras | None,
        memory: str,
        replay: frozenset[str],
        drift: DriftLog | None,
    ) -> tuple[Spec, list[Tensor]]:
        """Return the description of one call and its tensors, each once."""
        _check_streams(x1, x2)
        numbers: dict[int, int] = {}
        tensors: list[Tensor] = []

        def number(tensor: Tensor) -> int:
            if id(tensor) not in numbers:
                numbers[id(tensor)] = len(tensors)
                tensors.append(tensor)
            return numbers[id(tensor)]

        side = self._checked_extras(extras)
        referred = tuple(tuple(Ref(number(e)) if isinstance(e, Tensor) else e for e in given) for given in side)
        listed = parameters_of if torch.is_grad_enabled() else _nothing  # stand-ins serve a backward pass alone
        slots = tuple(
            tuple((owner, key, number(parameter)) for owner, key, parameter in listed(link)) for link in self.links
        )
        ambient = Ambient.capture(x1)
        io_dtype = torch.promote_types(x1.dtype, x2.dtype)
        plan = make_plan(self.links, io_dtype, ambient, memory, self.stream_dtype, self.anchor_every)
        labels = tuple(f"{self.name}[{index}]" for index in range(len(self.links)))
        return Spec(tuple(self.links), labels, slots, referred, plan, ambient, replay, drift), tensors

    def _checked_extras(self, extras: Extras | None) -> list[tuple[Any, ...]]:
        if extras is None:
            return [()] * len(self.links)
        if isinstance(extras, Tensor) or len(extras) != len(self.links):
            came = "a tensor" if isinstance(extras, Tensor) else f"{len(extras)}"
            raise InputError(
                f"expected extras as {len(self.links)} tuples, one a link, got {came}: give () where a link has none"
            )
        for index, given in enumerate(extras):
            if not isinstance(given, tuple | list):
                raise InputError(
                    f"expected a tuple of extras for {self.name}[{index}], got {type(given).__name__}: write (extra,)"
                )
        return [tuple(given) for given in extras]


def _nothing(module: nn.Module) -> tuple[()]:
    return ()


def _check_streams(x1: Tensor, x2: Tensor) -> None:
    if x1.shape != x2.shape or x1.device != x2.device:
        raise InputError(
            f"expected two streams of one shape and device, got {list(x1.shape)} on {x1.device} and {list(x2.shape)} "
            f"on {x2.device}"
        )
    if not (x1.is_floating_point() and x2.is_floating_point()):
        raise InputError(f"expected floating-point streams, got {x1.dtype} and {x2.dtype}: convert them first")

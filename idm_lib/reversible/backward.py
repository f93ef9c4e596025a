"""The links walked in reverse: per link one evaluation of the body, which serves the inverse and the gradients."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from idm_lib.reversible.couplings import Coupling
from idm_lib.reversible.parameters import check_nothing_hidden, stand_ins
from idm_lib.reversible.replay import Replay
from idm_lib.reversible.spec import Spec, Tape


class Walk:
    """One backward pass over the links, last to first.

    Between links the state is what plain backpropagation has too, the streams and their gradients, and it is dropped
    as soon as it has been used, so that little is alive while a body's own graph is.

    Args:
        spec: the call that is being differentiated.
        tensors: the side inputs and parameters that the call was given.
        tape: what its forward pass kept.
        needs: which of ``tensors`` need a gradient.
        needs_inputs: whether the chain's own input streams do.

    Attributes:
        gradients: gradient of each tensor by number, summed over the links.
        g1, g2: gradients of the streams at the link that has been reached.
    """

    def __init__(
        self, spec: Spec, tensors: Sequence[Tensor], tape: Tape, needs: Sequence[bool], needs_inputs: bool
    ) -> None:
        self.spec, self.plan, self.tensors, self.tape, self.needs = spec, spec.plan, tensors, tape, needs
        self.needs_inputs = needs_inputs
        self.streams = spec.plan.streams(tape.get("words", ()))
        self.s1, self.s2 = tape.pop("ends", (None, None))
        self.g1: Tensor | None = None
        self.g2: Tensor | None = None
        self.gradients: dict[int, Tensor] = {}

    def run(self, g1: Tensor | None, g2: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Take the gradients of the chain's outputs to those of its inputs, and return them."""
        self.g1, self.g2 = _to(g1, self.plan.gradient_dtype), _to(g2, self.plan.gradient_dtype)
        del g1, g2
        count = len(self.spec.links)
        needed = [i for i in range(count) if any(self.needs[number] for number in self.spec.numbers(i))]
        lowest = 0 if self.needs_inputs else needed[0]  # below it, no gradient is wanted
        for index in reversed(range(lowest, count)):
            self._link(index, needs_below=index > lowest or self.needs_inputs)
        return self.g1, self.g2

    def _link(self, index: int, needs_below: bool) -> None:
        """Move streams and gradients from the output of link ``index`` to its input."""
        link, slots = self.spec.links[index], self.spec.slots[index]
        x1, x2 = self.tape.pop(("anchor", index), (self.s2, None))
        if self.g1 is None and x2 is not None:  # y1 is unused and nothing is to be rebuilt
            self.s1, self.s2, self.g1, self.g2 = x1, x2, self.g2, None
            return
        in_slots = {number for _, _, number in slots}
        leaves = {n: _leaf(self.tensors[n], self.needs[n], n in in_slots) for n in self.spec.numbers(index)}
        x = _leaf(self._laid_out(index, self.streams.decode(x1, self.plan.io_dtype)), needs_below)
        # The stand-ins stay for the gradients too: a body that checkpoints itself is evaluated once more there.
        with stand_ins(slots, leaves):
            f = self._evaluate(index, x, leaves, with_graph=self.g1 is not None)
            if x2 is None:
                x2 = self.streams.unmix(index, link, f.detach(), self.s1)
                self._watch(index, x2)
            self.s1, self.s2 = x1, x2
            if self.g1 is None:  # only y2 = x1 was used
                self.g1, self.g2 = self.g2, None
                return
            check_nothing_hidden(f, [x, *leaves.values()], self.spec.labels[index])
            g_f, g_x2 = self._through_mixing(link, f, x2, leaves)
            g_x1 = self._through_body(f, g_f, x, leaves)
        self.g1, self.g2 = _sum(_to(g_x1, self.plan.gradient_dtype), self.g2), g_x2

    def _through_mixing(
        self, link: Coupling, f: Tensor, x2: Tensor, leaves: Mapping[int, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of F's result and of x2, and let go of y1's."""
        f_leaf, x2_leaf = _leaf(f, True), _leaf(self.streams.decode(x2, self.plan.gradient_dtype), True)
        with torch.enable_grad():
            y1 = link.mix(f_leaf, x2_leaf)
        g_f, g_x2 = self._grad(y1, self.g1, leaves, f_leaf, x2_leaf)
        self.g1 = None
        return g_f, g_x2

    def _through_body(self, f: Tensor, g_f: Tensor | None, x: Tensor, leaves: Mapping[int, Tensor]) -> Tensor | None:
        if g_f is None or not f.requires_grad:
            return None
        (g_x1,) = self._grad(f, g_f, leaves, x)
        return g_x1

    def _evaluate(self, index: int, x: Tensor, leaves: Mapping[int, Tensor], with_graph: bool) -> Tensor:
        spec, tape = self.spec, self.tape
        names = [key for key in tape if isinstance(key, tuple) and key[:2] == ("kept", index)]
        kept = [(key[2], tape.pop(key)) for key in names]
        with (
            spec.ambient.entered(),
            spec.ambient.random_state_set(tape.get(("random", index), ())),
            Replay(spec.replay, kept) if kept else nullcontext(),
            torch.set_grad_enabled(with_graph),
        ):
            return spec.links[index].body(x, *spec.filled(index, leaves))

    def _grad(
        self, output: Tensor, gradient: Tensor, leaves: Mapping[int, Tensor], *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Back-propagate one piece; add up what reaches the leaves and return what reaches ``inputs``."""
        wanted = [number for number, leaf in leaves.items() if leaf.requires_grad]
        sources = [t for t in inputs if t.requires_grad]
        found = torch.autograd.grad(output, sources + [leaves[n] for n in wanted], gradient, allow_unused=True)
        for number, part in zip(wanted, found[len(sources) :], strict=True):
            if part is not None:
                self.gradients[number] = _sum(self.gradients.get(number), _compact(part))
        by_source = dict(zip(map(id, sources), found, strict=False))
        return tuple(by_source.get(id(t)) for t in inputs)

    def _laid_out(self, index: int, x: Tensor) -> Tensor:
        """Return ``x`` with the strides of the first evaluation, if random numbers were drawn there."""
        for layout in self.tape.get(("layout", index), ()):
            strides = layout.tolist()
            if strides != list(x.stride()):
                x = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
        return x

    def _watch(self, index: int, x2: Tensor) -> None:
        drift, watched = self.spec.drift, self.tape.get(("watched", index))
        if drift is not None and watched is not None:
            rebuilt = self.streams.decode(x2.flatten()[drift.places(x2)], torch.float64)
            drift.record(self.spec.labels[index], watched[0], rebuilt)


def _leaf(tensor: Tensor, needs_grad: bool, parameter: bool = False) -> Tensor:
    """Return a new leaf on the same memory."""
    if parameter:
        return nn.Parameter(tensor.detach(), requires_grad=needs_grad)
    return tensor.detach().requires_grad_(needs_grad)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _compact(gradient: Tensor) -> Tensor:
    """Return it on memory of its own: a skip's gradient is a slice, and would keep the whole concatenation alive."""
    if gradient.layout != torch.strided:
        return gradient  # a sparse one, as of an embedding, is never a view of that kind
    return gradient.clone() if gradient.untyped_storage().nbytes() > gradient.nbytes else gradient


def _to(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if gradient is None else gradient.to(dtype)

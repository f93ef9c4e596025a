"""The links walked in reverse: per link one evaluation of the body, which serves the inverse and the gradients."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from idm_lib.reversible.parameters import check_nothing_hidden, stand_ins
from idm_lib.reversible.replay import Replay
from idm_lib.reversible.spec import Spec, Tape


class Walk:
    """One backward pass; ``gradients`` maps the tensors' numbers to their gradients, summed over the links."""

    def __init__(self, spec: Spec, tensors: Sequence[Tensor], tape: Tape, needs: Sequence[bool]) -> None:
        self.spec, self.plan, self.tensors, self.tape, self.needs = spec, spec.plan, tensors, tape, needs
        self.streams = spec.plan.streams(tape.get("words", ()))
        self.gradients: dict[int, Tensor] = {}

    def __call__(
        self, g1: Tensor | None, g2: Tensor | None, needs_inputs: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Take the gradients of the chain's outputs to those of its inputs."""
        links = range(len(self.spec.links))
        needed = [i for i in links if any(self.needs[number] for number in self.spec.numbers(i))]
        lowest = 0 if needs_inputs else needed[0]  # below it, no gradient is wanted
        g1, g2 = _to(g1, self.plan.gradient_dtype), _to(g2, self.plan.gradient_dtype)
        y1, y2 = self.tape.get("ends", (None, None))
        for index in reversed(range(lowest, len(links))):
            x1, x2 = self.tape.get(("anchor", index), (y2, None))
            y1, y2, g1, g2 = self._link(index, x1, x2, y1, g1, g2, index > lowest or needs_inputs)
        return g1, g2

    def _link(
        self, index: int, x1: Tensor, x2: Tensor | None, y1: Tensor | None,
        g1: Tensor | None, g2: Tensor | None, needs_below: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        """Return link ``index``'s input streams and their gradients, from its output's."""
        link, slots = self.spec.links[index], self.spec.slots[index]
        in_slots = {number for _, _, number in slots}
        leaves = {n: _leaf(self.tensors[n], self.needs[n], n in in_slots) for n in self.spec.numbers(index)}
        x = _leaf(self.streams.decode(x1, self.plan.io_dtype), needs_below)
        with stand_ins(slots, leaves):
            f = self._evaluate(index, x, leaves, with_graph=g1 is not None)
            if x2 is None:
                x2 = self.streams.unmix(index, link, f.detach(), y1)
                self._watch(index, x2)
            if g1 is None:  # only y2 was used, and y2 is x1
                return x1, x2, g2, None
            check_nothing_hidden(f, [x, *leaves.values()], self.spec.labels[index])
            # First through the mixing, then through the body: so little is alive while the body's graph is walked.
            f_leaf, x2_leaf = _leaf(f, True), _leaf(self.streams.decode(x2, self.plan.gradient_dtype), True)
            with torch.enable_grad():
                y = link.mix(f_leaf, x2_leaf)
            g_f, g_x2 = self._grad(y, g1, leaves, f_leaf, x2_leaf)
            del y, f_leaf, x2_leaf, g1
            g_x1 = None
            if f.requires_grad and g_f is not None:
                (g_x1,) = self._grad(f, g_f, leaves, x)
        g_x1 = _to(g_x1, self.plan.gradient_dtype)
        g_x1 = g_x1 if g2 is None else g2 if g_x1 is None else g_x1 + g2
        return x1, x2, g_x1, g_x2

    def _evaluate(self, index: int, x: Tensor, leaves: Mapping[int, Tensor], with_graph: bool) -> Tensor:
        spec, tape = self.spec, self.tape
        kept = [(key[2], tape[key]) for key in tape if isinstance(key, tuple) and key[:2] == ("kept", index)]
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
                known = self.gradients.get(number)
                self.gradients[number] = part if known is None else known + part
        by_source = dict(zip(map(id, sources), found, strict=False))
        return tuple(by_source.get(id(t)) for t in inputs)

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


def _to(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if gradient is None else gradient.to(dtype)

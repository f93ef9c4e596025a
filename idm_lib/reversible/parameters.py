"""The parameters of a link as arguments: found, put in place for one evaluation, and checked to be all of them.

Autograd gives a custom Function gradients only for tensors it was *given*. A body, however, reads its parameters
from its modules. So the chain passes every parameter, and its backward pass evaluates the body on detached
stand-ins for them. Hooks that users put on parameters then run once, on the whole gradient, and a
``torch.func.functional_call`` that has ended by the time of the backward pass still gets its own gradient.

While stand-ins are in place, a second thread that built a graph on the same module would build it on them, and its
gradients would be lost. So a chain takes turns with other threads over the modules that it shares with them; see
:func:`turns`. Modules that are not shared are never waited for.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError

#: Where a parameter lives: its module, its name there, and its number among the Function's tensors.
Slot = tuple[nn.Module, str, int]


def parameters_of(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Yield each place in ``module`` that holds a parameter, tied ones once for each place."""
    for owner in module.modules():
        for key, parameter in owner._parameters.items():
            if parameter is not None:
                yield owner, key, parameter


class _Turn:
    """A module's lock, kept among its attributes; a copy of the module gets one of its own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # a lock cannot be pickled, and there is nothing in it to keep


@contextmanager
def turns(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Keep other threads from building a graph on these modules' parameters, or putting stand-ins there.

    One order for all threads, and reentrant, so that a chain inside a body of another finds what is held already
    and no two threads wait for each other. Evaluations without gradients need no turn: stand-ins have the
    parameters' own memory. Whoever evaluates a shared module with gradients, but not through a chain, or lists its
    parameters, takes none: there, threads must see to it themselves.
    """
    found = {id(module): module for module in modules}
    held = []
    try:
        for key in sorted(found):
            lock = found[key].__dict__.setdefault("_reversible_turn", _Turn()).lock
            lock.acquire()
            held.append(lock)
        yield
    finally:
        for lock in reversed(held):
            lock.release()


@contextmanager
def stand_ins(slots: Sequence[Slot], tensors: Mapping[int, Tensor]) -> Iterator[None]:
    """Put ``tensors[number]`` in the place of each slot's parameter, and the parameter back at the end."""
    with turns(owner for owner, _, _ in slots):
        held = [owner._parameters[key] for owner, key, _ in slots]
        try:
            for owner, key, number in slots:
                owner._parameters[key] = tensors[number]  # type: ignore[assignment]
            yield
        finally:
            for (owner, key, _), parameter in zip(slots, held, strict=True):
                owner._parameters[key] = parameter


def check_nothing_hidden(result: Tensor, known: Iterable[Tensor], label: str) -> None:
    """Raise if ``result`` depends, through autograd, on a tensor that is not among ``known``.

    Such a tensor reached the body by a closure, an attribute or a container. Its gradient would be lost without a
    word, because the chain's Function can only return gradients for tensors that it was given.

    Raises:
        InputError: names the link and the shape of the hidden tensor.
    """
    known_ids = {id(tensor) for tensor in known}
    for variable in _leaves(result):
        if id(variable) not in known_ids:
            raise InputError(
                f"expected the body of {label} to depend only on its arguments and its own parameters, got one that "
                f"also reads a {list(variable.shape)} tensor that needs a gradient: pass what it reads through extras"
            )


def _leaves(result: Tensor) -> Iterator[Tensor]:
    """Yield every leaf that the graph of ``result`` ends in."""
    if result.grad_fn is None and result.requires_grad:
        yield result
    waiting: list[Any] = [result.grad_fn]
    seen = {None}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        waiting.extend(following for following, _ in node.next_functions)


def refuse_batch_norm(module: nn.Module, label: str) -> None:
    """Raise if ``module`` holds a batch norm in training mode: a second evaluation would update its averages twice.

    Raises:
        InputError: names the link and the layer.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._NormBase) and layer.training and layer.track_running_stats:
            raise InputError(
                f"expected bodies that may be evaluated twice, got {type(layer).__name__} in training mode at "
                f"'{name}' of {label}: use group norm, call .eval() on it, or choose memory='store'"
            )


def versions_of_buffers(module: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """Return every buffer of ``module`` by name, with the count of its changes in place so far."""
    return {name: (b, b._version) for name, b in module.named_buffers() if not b.is_inference()}


def check_buffers_unchanged(before: Mapping[str, tuple[Tensor, int]], label: str) -> None:
    """Raise if a buffer was changed in place since :func:`versions_of_buffers`: a second evaluation would differ.

    Spectral norm and running averages work so in training mode.

    Raises:
        InputError: names the link and the buffer.
    """
    for name, (buffer, version) in before.items():
        if buffer._version != version:
            raise InputError(
                f"expected bodies that may be evaluated twice, got one that changes its buffer '{name}' at {label}: "
                f"call .eval() on the layer that owns it, or choose memory='store'"
            )

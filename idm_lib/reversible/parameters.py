"""The parameters of a link as arguments: found, put in place for one evaluation, and checked to be all of them.

Autograd gives a custom Function gradients only for tensors it was *given*. A body, however, reads its parameters
from its modules. So the chain passes every parameter, and its backward pass evaluates the body on detached
stand-ins for them. Hooks that users put on parameters then run once, on the whole gradient, and a
``torch.func.functional_call`` that has ended by the time of the backward pass still gets its own gradient.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def stand_ins(slots: Sequence[Slot], tensors: Mapping[int, Tensor]) -> Iterator[None]:
    """Put ``tensors[number]`` in the place of each slot's parameter, and the parameter back at the end."""
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

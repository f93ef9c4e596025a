"""One task an image: its measurements and the operator that took them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators import BlockCS


@dataclass(frozen=True)
class Task:
    """One image to reconstruct.

    Args:
        y: (C, M), a row for each channel.
        op: the operator that took them.
    """

    y: Tensor
    op: Any


def tasks_of_images(
    planes: list[Tensor],
    operator: Any,
    build: Callable[[tuple[int, int]], BlockCS],
    generator: torch.Generator | list[torch.Generator] | None,
    seed: int | Sequence[int] | None,
) -> list[Task]:
    """Measure images, each (C, 1, H, W), by ``operator``, or by one of their size with a permutation of their own."""
    if operator is not None:
        ops = _split(operator, len(planes), planes[0].device)
    else:
        by_size: dict[tuple[int, int], BlockCS] = {}
        ops = []
        for x, number in zip(planes, _seeds(len(planes), generator, seed), strict=True):
            size = (x.shape[-2], x.shape[-1])
            if size not in by_size:  # Φ is drawn once for each size
                by_size[size] = build(size).to(x.device)
            ops.append(by_size[size].replace(permutation_seed=number))
    tasks = []
    for i, (x, op) in enumerate(zip(planes, ops, strict=True)):
        noisy = getattr(op, "noise_std", 0.0) > 0
        tasks.append(Task(op.measure(x, seed=i) if noisy else op.A(x), op))
    return tasks


def tasks_of_measurements(
    y: Tensor,
    operator: Any,
    build: Callable[[], BlockCS] | None,
    generator: torch.Generator | list[torch.Generator] | None,
    seed: int | Sequence[int] | None,
) -> list[Task]:
    """Take measurements, (B, M) or (B, C, M), as they are.

    Raises:
        InputError: another shape, no floating point, NaN, or no operator to be had.
    """
    if not isinstance(y, Tensor) or y.dim() not in (2, 3) or not y.is_floating_point() or not len(y):
        got = f"{tuple(y.shape)}, {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"y must be a floating-point tensor of shape (B, M) or (B, C, M); got {got}.")
    rows = y if y.dim() == 3 else y[:, None]  # (B, C, M)
    if rows.shape[1] not in (1, 3):
        raise InputError(f"y, (B, C, M), must have C = 1 channel or 3; got {tuple(y.shape)}.")
    if operator is not None:
        ops = _split(operator, len(y), y.device)
    elif build is None:
        raise InputError(
            "measurements y need the operator that took them; give operator=, or image_size= and ratio=."
        )
    else:
        base = build().to(y.device)
        ops = [base.replace(permutation_seed=number) for number in _seeds(len(y), generator, seed)]
    return [Task(each, op) for each, op in zip(rows, ops, strict=True)]


def _split(operator: Any, count: int, device: torch.device) -> list[Any]:
    """The operator of each image: a BlockCS may have a permutation for each."""
    if not isinstance(operator, BlockCS):
        return [operator] * count
    operator = operator.replace().to(device)  # the caller's own stays where it is
    if isinstance(operator.permutation_seed, int):
        return [operator] * count
    if len(operator.permutation_seed) != count:
        raise InputError(
            f"the operator has one permutation for each of {len(operator.permutation_seed)} images; got {count}."
        )
    return [operator.replace(permutation_seed=number) for number in operator.permutation_seed]


def _seeds(
    count: int, generator: torch.Generator | list[torch.Generator] | None, seed: int | Sequence[int] | None
) -> list[int]:
    """A permutation's seed for each image."""
    if generator is not None and seed is not None:
        raise InputError("give a generator or a seed for the permutations, and not both.")
    if generator is not None:
        generators = generator if isinstance(generator, list) else [generator] * count
        if len(generators) != count or not all(isinstance(each, torch.Generator) for each in generators):
            raise InputError(
                f"generator must be one torch.Generator, or one for each of {count} images; got {generator!r}."
            )
        return [int(torch.randint(2**32, (1,), generator=each, device=each.device)) for each in generators]
    seeds = list(seed) if isinstance(seed, Sequence) and not isinstance(seed, str) else [seed] * count
    if len(seeds) != count:
        raise InputError(f"seed must be one number, or one for each of {count} images; got {len(seeds)}.")
    return seeds

"""Exercises of chapter 08: the reversible sampling chain."""

from collections.abc import Callable
from typing import Any

import torch

from idm_lib.notebook.exercise import Exercise, require


def _pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = torch.randn(2, 1, 1, 4, 4, generator=generator, dtype=torch.float64)
    return x1, x2


# 08.1 ---------------------------------------------------------------------------------


def run_back(
    x1: torch.Tensor, x2: torch.Tensor, steps: list[Callable], v: list[float]
) -> tuple:
    """Return the first pair, from the last. Step i was steps[i], wired with v[i]."""
    for f, share in zip(reversed(steps), reversed(v), strict=True):
        x1, x2 = x2, (x1 - (1 - share) * f(x2)) / share
    return x1, x2


def _wrong_order(
    x1: torch.Tensor, x2: torch.Tensor, steps: list[Callable], v: list[float]
) -> tuple:
    return run_back(x1, x2, steps[::-1], v[::-1])


def _mismatched(
    x1: torch.Tensor, x2: torch.Tensor, steps: list[Callable], v: list[float]
) -> tuple:
    return run_back(x1, x2, steps, v[::-1])


def _at_the_wrong_image(
    x1: torch.Tensor, x2: torch.Tensor, steps: list[Callable], v: list[float]
) -> tuple:
    for f, share in zip(reversed(steps), reversed(v), strict=True):
        x1, x2 = x2, (x1 - (1 - share) * f(x1)) / share
    return x1, x2


def _check_back(answer: Callable[..., Any]) -> None:
    steps: list[Callable] = [torch.sin, torch.tanh, lambda x: 0.5 * x + 1]
    for count, v in ((1, [0.3]), (2, [0.5, 0.8]), (3, [0.4, 0.5, 0.7])):
        start = x1, x2 = _pair(count)
        for f, share in zip(steps[:count], v, strict=True):
            x1, x2 = (1 - share) * f(x1) + share * x2, x1
        got = answer(x1, x2, steps[:count], v)
        require(isinstance(got, tuple) and len(got) == 2, "return two images")
        close = [torch.allclose(a, b) for a, b in zip(got, start, strict=True)]
        require(
            all(close),
            f"{count} step(s) with v = {v} do not come back: undo the last step first, "
            "each with its own v, and evaluate it at the image that was kept",
        )


# 08.2 ---------------------------------------------------------------------------------


def runs_a_step(steps: int, blocks: str, recompute: bool, keep: int) -> float:
    """Return how often a layer runs per step; ``recompute``: steps are not stored."""
    own = 1 if blocks == "store" else 2
    again = (steps - keep) / steps if recompute else 0
    return own + again


def _forgets_the_middle(steps: int, blocks: str, recompute: bool, keep: int) -> float:
    return 1 if blocks == "store" else 2


def _ignores_keep(steps: int, blocks: str, recompute: bool, keep: int) -> float:
    return (1 if blocks == "store" else 2) + recompute


def _check_runs(answer: Callable[..., Any]) -> None:
    for case in (
        (3, "store", False, 0),
        (3, "store", True, 0),
        (3, "invert", False, 0),
        (3, "invert", True, 1),
        (10, "checkpoint", True, 1),
        (4, "invert", True, 4),
    ):
        want, got = runs_a_step(*case), answer(*case)
        steps, blocks, recompute, keep = case
        require(
            abs(got - want) < 1e-9,
            f"T = {steps}, blocks {blocks!r}, steps {'computed again' if recompute else 'stored'}, "
            f"{keep} kept: {want:.2f} runs, not {got:.2f}",
        )


# 08.3 ---------------------------------------------------------------------------------


def steps_until_lost(v: float, bits: int, tolerance: float) -> int:
    """Return how many steps can be inverted with an error of at most tolerance.

    The first error is 2**-bits, and each inverted step divides it by v.
    """
    steps, error = 0, 2.0**-bits
    while error / v <= tolerance:
        steps, error = steps + 1, error / v
    return steps


def _one_more(v: float, bits: int, tolerance: float) -> int:
    return steps_until_lost(v, bits, tolerance) + 1


def _always_doubles(v: float, bits: int, tolerance: float) -> int:
    return steps_until_lost(0.5, bits, tolerance)


def _check_lost(answer: Callable[..., Any]) -> None:
    for v, bits, tolerance in (
        (0.5, 24, 1e-2),
        (0.5, 53, 1e-2),
        (0.1, 24, 1e-3),
        (0.9, 8, 0.1),
    ):
        want, got = steps_until_lost(v, bits, tolerance), answer(v, bits, tolerance)
        require(
            got == want,
            f"v = {v}, {bits} bits, tolerance {tolerance}: {want} steps, not {got}; after n "
            "steps the error is 2**-bits / v**n",
        )


EXERCISES = (
    Exercise(
        title="Run the sampler backwards",
        task="Undo a whole chain of wired steps, each with its own $v$.",
        solution=run_back,
        check=_check_back,
        hint="The chapter undoes three steps in one loop. What came last is undone first.",
        wrong=(_wrong_order, _mismatched, _at_the_wrong_image),
    ),
    Exercise(
        title="How often does a layer run?",
        task="Blocks are `'store'`, `'checkpoint'` or `'invert'`; steps are stored or computed "
        "again, but for the last `keep`. How often does a layer of the U-Net run for each "
        "step, in one training step?",
        solution=runs_a_step,
        check=_check_runs,
        hint="Once forward; once more if its block is not stored; and once more in each step "
        "that is computed again.",
        wrong=(_forgets_the_middle, _ignores_keep),
    ),
    Exercise(
        title="How many steps can you invert?",
        task="A number with `bits` bits starts with an error of `2**-bits`, and each inverted "
        "step divides it by $v$. How many steps stay within the tolerance? Then compare single "
        "and double precision, and $v = 0.5$ with $v = 0.9$.",
        solution=steps_until_lost,
        check=_check_lost,
        hint="Divide in a loop, and stop before the error becomes too large.",
        wrong=(_one_more, _always_doubles),
    ),
)

"""Exercises of chapter 06: invertible couplings."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from idm_lib.notebook.exercise import Exercise, require


def _pair(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x1, x2 = torch.randn(2, 2, 3, 5, 4, generator=generator, dtype=torch.float64)
    return x1, x2


# 06.1 ---------------------------------------------------------------------------------


def wired_inverse(
    y1: torch.Tensor, y2: torch.Tensor, body: torch.nn.Module, v: float
) -> tuple:
    """Return (x1, x2) with y1 = (1 − v)·body(x1) + v·x2 and y2 = x1."""
    x1 = y2
    x2 = (y1 - (1 - v) * body(x1)) / v
    return x1, x2


def _evaluates_at_y1(
    y1: torch.Tensor, y2: torch.Tensor, body: torch.nn.Module, v: float
) -> tuple:
    return y2, (y1 - (1 - v) * body(y1)) / v


def _forgets_to_divide(
    y1: torch.Tensor, y2: torch.Tensor, body: torch.nn.Module, v: float
) -> tuple:
    return y2, y1 - (1 - v) * body(y2)


def _check_inverse(answer: Callable[..., Any]) -> None:
    for seed, v in ((0, 0.5), (1, 0.2), (2, 0.9)):
        x1, x2 = _pair(seed)
        got = answer((1 - v) * torch.sin(x1) + v * x2, x1, torch.sin, v)
        require(
            isinstance(got, tuple) and len(got) == 2, "return two tensors, (x1, x2)"
        )
        require(torch.allclose(got[0], x1), "x1 is not right: which output carries it?")
        require(
            torch.allclose(got[1], x2),
            f"x1 is right, x2 is not (tried v = {v}): solve the first equation for x2",
        )


# 06.2 ---------------------------------------------------------------------------------


def links_until_lost(v: float, eps: float, tolerance: float) -> int:
    """Return after how many links an error eps, times 1/v a link, exceeds tolerance."""
    links, error = 0, eps
    while error <= tolerance:
        error, links = error / v, links + 1
    return links


def _multiplies(v: float, eps: float, tolerance: float) -> int:
    return round(v * math.log2(tolerance / eps))


def _check_links(answer: Callable[..., Any]) -> None:
    for v, eps, tolerance in (
        (0.5, 2.0**-24, 1e-2),
        (0.2, 2.0**-53, 1e-2),
        (0.9, 1e-7, 1e-3),
    ):
        want = links_until_lost(v, eps, tolerance)
        got = answer(v, eps, tolerance)
        require(
            got == want,
            f"for v = {v} and a first error of {eps:.1e} the answer is {want}, not {got}: "
            f"count divisions by v until the error is larger than {tolerance}",
        )


# 06.3 ---------------------------------------------------------------------------------


def halve_exactly(x: int) -> tuple[int, int]:
    """Return (half, bit) from which the integer x can be rebuilt as 2·half + bit."""
    return x // 2, x % 2


def _drops_the_bit(x: int) -> tuple[int, int]:
    return x // 2, 0


def _truncates(x: int) -> tuple[int, int]:
    return int(x / 2), x % 2


def _check_halve(answer: Callable[..., Any]) -> None:
    for x in (0, 1, 10, 11, -7, -8, 123457):
        half, bit = answer(x)
        require(
            bit in (0, 1), f"for x = {x} the second number is {bit}: one bit, 0 or 1"
        )
        require(
            2 * half + bit == x,
            f"x = {x} gave ({half}, {bit}), and 2·{half} + {bit} is not {x}",
        )


EXERCISES = (
    Exercise(
        title="Undo a wired link",
        task="Write the inverse of the wired coupling for any body and any $v$. "
        "You may call `body` once.",
        solution=wired_inverse,
        check=_check_inverse,
        hint="The second output *is* $x_1$. Evaluate the body there, then solve the first "
        "equation for $x_2$.",
        wrong=(_evaluates_at_y1, _forgets_to_divide),
    ),
    Exercise(
        title="How deep can you go?",
        task="At each inverted link, an error grows by $1/v$ where the body's slope is one. "
        "Starting from `eps`, how many links does it take until the error is larger than "
        "`tolerance`?",
        solution=links_until_lost,
        check=_check_links,
        hint="A loop that divides by `v` is enough; count how often it runs.",
        wrong=(_multiplies,),
    ),
    Exercise(
        title="Lose nothing when you halve",
        task="Bit-exact streams rest on this: halving an integer loses one bit, so keep it. "
        "Negative integers come too.",
        solution=halve_exactly,
        check=_check_halve,
        hint="Python's `//` rounds down and `%` is never negative for a positive divisor.",
        wrong=(_drops_the_bit, _truncates),
    ),
)

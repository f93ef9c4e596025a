"""Exercises of chapter 05: the chain as a network."""

from collections.abc import Callable
from typing import Any

import torch

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# 05.1 ---------------------------------------------------------------------------------


def schedule(alpha: torch.Tensor) -> torch.Tensor:
    """Return all T + 1 products, 1 first, from alpha (T,), each held in 0.01 … 0.99."""
    held = alpha.clamp(0.01, 0.99)
    return torch.cat([alpha.new_ones(1), held.cumprod(0)])


def _no_first(alpha: torch.Tensor) -> torch.Tensor:
    return alpha.clamp(0.01, 0.99).cumprod(0)


def _holds_the_product(alpha: torch.Tensor) -> torch.Tensor:
    return torch.cat([alpha.new_ones(1), alpha.cumprod(0).clamp(0.01, 0.99)])


def _sums(alpha: torch.Tensor) -> torch.Tensor:
    return torch.cat([alpha.new_ones(1), 1 - alpha.clamp(0.01, 0.99).cumsum(0)])


def _check_schedule(answer: Callable[..., Any]) -> None:
    for values in ((0.5, 0.5, 0.5), (0.9,), (0.9, 1.3, 0.6, -0.2)):
        alpha = torch.tensor(values, dtype=torch.float64)
        got, want = answer(alpha), schedule(alpha)
        require(
            torch.is_tensor(got) and got.shape == want.shape,
            f"{len(values)} numbers make {len(values) + 1} products: the first, for t = 0, is 1",
        )
        require(
            torch.allclose(got, want),
            f"α = {list(values)} should give {[round(w, 3) for w in want.tolist()]}, not "
            f"{[round(g, 3) for g in got.tolist()]}: hold each α, then multiply",
        )


# 05.2 ---------------------------------------------------------------------------------


def noise_level(alpha_bar: float) -> float:
    """Return sigma such that x_t is proportional to x + sigma·eps."""
    return ((1 - alpha_bar) / alpha_bar) ** 0.5


def _not_divided(alpha_bar: float) -> float:
    return (1 - alpha_bar) ** 0.5


def _upside_down(alpha_bar: float) -> float:
    return (alpha_bar / (1 - alpha_bar)) ** 0.5 if alpha_bar < 1 else 0.0


def _check_level(answer: Callable[..., Any]) -> None:
    for alpha_bar in (1.0, 0.9, 0.5, 0.125):
        got = float(answer(alpha_bar))
        x, eps = _noise(2, 500)
        x_t = alpha_bar**0.5 * x + (1 - alpha_bar) ** 0.5 * eps
        require(
            torch.allclose(x_t / alpha_bar**0.5, x + got * eps),
            f"with ᾱ = {alpha_bar}, dividing x_t by √ᾱ does not give x + {got:.3f}·ε",
        )


# 05.3 ---------------------------------------------------------------------------------


def last_step(
    x: torch.Tensor,
    epsilon: torch.Tensor,
    y: torch.Tensor,
    op: idm.LinearOperator,
    alpha_bar: torch.Tensor,
) -> torch.Tensor:
    """Return x_0 from x_1, the noise estimate at x_1, and alpha_bar = ᾱ_1."""
    clean = (x - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt()
    return clean - op.A_dagger(op.A(clean) - y)


def _forgets_y(
    x: torch.Tensor,
    epsilon: torch.Tensor,
    y: torch.Tensor,
    op: idm.LinearOperator,
    alpha_bar: torch.Tensor,
) -> torch.Tensor:
    return (x - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt()


def _keeps_the_noise(
    x: torch.Tensor,
    epsilon: torch.Tensor,
    y: torch.Tensor,
    op: idm.LinearOperator,
    alpha_bar: torch.Tensor,
) -> torch.Tensor:
    return last_step(x, 0 * epsilon, y, op, alpha_bar)


def _projects_first(
    x: torch.Tensor,
    epsilon: torch.Tensor,
    y: torch.Tensor,
    op: idm.LinearOperator,
    alpha_bar: torch.Tensor,
) -> torch.Tensor:
    x = x - op.A_dagger(op.A(x) - y)
    return (x - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt()


def _check_last(answer: Callable[..., Any]) -> None:
    op = idm.BlockCS((16, 16), ratio=0.25, seed=3)
    for value in (0.5, 0.9):
        x, epsilon, truth = _noise(3, 1, 1, 16, 16)
        alpha_bar, y = torch.tensor(value, dtype=torch.float64), op.A(truth)
        got = answer(x, epsilon, y, op, alpha_bar)
        require(
            getattr(got, "shape", None) == x.shape,
            "return an image of the shape of x",
        )
        require(
            torch.allclose(op.A(got), y),
            "the result does not agree with y: ᾱ_0 = 1, so nothing comes after the "
            "range–null-space step",
        )
        require(
            torch.allclose(got, last_step(x, epsilon, y, op, alpha_bar)),
            "it agrees with y, but what A does not see is wrong: solve "
            "x_1 = √ᾱ_1·x + √(1−ᾱ_1)·ε for x",
        )


# 05.4 ---------------------------------------------------------------------------------


def most_steps(one: float, two: float, room: float) -> int:
    """Return the largest T that fits, when T = 1 takes ``one`` bytes and T = 2 takes ``two``."""
    if one > room:
        return 0
    return 1 + int((room - one) // (two - one))


def _in_proportion(one: float, two: float, room: float) -> int:
    return int(room // one)


def _forgets_the_first(one: float, two: float, room: float) -> int:
    return int((room - one) // (two - one)) if room >= one else 0


def _check_most(answer: Callable[..., Any]) -> None:
    for one, two, room in (
        (10, 15, 31),
        (10, 15, 30),
        (10, 12, 9),
        (3, 6, 9),
        (7, 8, 7),
    ):
        want, got = most_steps(one, two, room), answer(one, two, room)
        require(
            got == want,
            f"one step {one}, two steps {two}, room for {room}: {want} steps fit, not {got}",
        )


EXERCISES = (
    Exercise(
        title="Write the schedule",
        task="Make $\\bar\\alpha_0 \\dots \\bar\\alpha_T$ from $\\alpha_1 \\dots \\alpha_T$. Hold "
        "each $\\alpha_t$ between 0.01 and 0.99 first; a plain `clamp` will do here.",
        solution=schedule,
        check=_check_schedule,
        hint="`cumprod` multiplies up; `torch.cat` puts the 1 in front.",
        wrong=(_no_first, _holds_the_product, _sums),
    ),
    Exercise(
        title="From ᾱ to a noise level",
        task="Chapter 03 wrote a noisy image as $x + \\sigma n$, this chapter as "
        "$\\sqrt{\\bar\\alpha}\\,x + \\sqrt{1-\\bar\\alpha}\\,\\varepsilon$. They differ by a "
        "factor. Which $\\sigma$ belongs to a given $\\bar\\alpha$?",
        solution=noise_level,
        check=_check_level,
        hint="Divide the second form by what stands before x.",
        wrong=(_not_divided, _upside_down),
    ),
    Exercise(
        title="The last step",
        task="Write $f_1$, given the network's noise estimate. With $\\bar\\alpha_0 = 1$ it is "
        "shorter than the others.",
        solution=last_step,
        check=_check_last,
        hint="√ᾱ_0 = 1 and √(1−ᾱ_0) = 0: no noise goes back in.",
        wrong=(_forgets_y, _keeps_the_noise, _projects_first),
    ),
    Exercise(
        title="How many steps fit?",
        task="You have counted the bytes of one step and of two. How many steps does plain "
        "backpropagation fit into `room` bytes?",
        solution=most_steps,
        check=_check_most,
        hint="Each further step costs what the second cost beyond the first. Zero is a "
        "possible answer.",
        wrong=(_in_proportion, _forgets_the_first),
    ),
)

"""Exercises of chapter 07: backpropagation without activations."""

from collections.abc import Callable
from typing import Any

import torch

from idm_lib.notebook.exercise import Exercise, require

# 07.1 ---------------------------------------------------------------------------------


def evaluations(links: int, memory: str) -> int:
    """Return how many evaluations of bodies one training step takes."""
    return links if memory == "store" else 2 * links


def _one_too_many(links: int, memory: str) -> int:
    return {"store": 1, "checkpoint": 2, "invert": 3}[memory] * links


def _check_evaluations(answer: Callable[..., Any]) -> None:
    for links in (1, 7, 256):
        for memory in ("store", "checkpoint", "invert"):
            got, want = answer(links, memory), evaluations(links, memory)
            require(
                got == want,
                f"{links} links with memory='{memory}': {want} evaluations, not {got}; "
                "one evaluation with a graph serves the inverse and the gradients",
            )


# 07.2 ---------------------------------------------------------------------------------


def gradient_of_v(f: torch.Tensor, x2: torch.Tensor, g1: torch.Tensor) -> torch.Tensor:
    """Return dloss/dv for y1 = (1 − v)·f + v·x2, given g1 = dloss/dy1."""
    return (g1 * (x2 - f)).sum()


def _forgets_f(f: torch.Tensor, x2: torch.Tensor, g1: torch.Tensor) -> torch.Tensor:
    return (g1 * x2).sum()


def _wrong_sign(f: torch.Tensor, x2: torch.Tensor, g1: torch.Tensor) -> torch.Tensor:
    return (g1 * (f - x2)).sum()


def _check_gradient(answer: Callable[..., Any]) -> None:
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        f, x2, g1 = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)
        got = answer(f, x2, g1)
        require(
            torch.is_tensor(got) and got.numel() == 1,
            "v is one number, so its gradient is one number: sum over the elements",
        )
        require(
            torch.allclose(got.reshape(()), (g1 * (x2 - f)).sum()),
            "the value is wrong: differentiate (1 − v)·f + v·x2 with respect to v",
        )


# 07.3 ---------------------------------------------------------------------------------


def checkpoint_streams(links: int, stride: int) -> int:
    """Return the most streams held when the pair before every so many links is stored."""
    stored = 2 * ((links + stride - 1) // stride)
    while_walking = stride
    return stored + while_walking


def _forgets_the_segment(links: int, stride: int) -> int:
    return 2 * ((links + stride - 1) // stride)


def _rounds_down(links: int, stride: int) -> int:
    return 2 * (links // stride) + stride


def _check_streams(answer: Callable[..., Any]) -> None:
    for links, stride in ((16, 4), (17, 4), (100, 10), (5, 5)):
        want, got = checkpoint_streams(links, stride), answer(links, stride)
        require(
            got == want,
            f"{links} links, a pair stored before every {stride} of them: {want} streams, not "
            f"{got}; count two for each segment that begins, and one for each link of "
            "the segment that is being computed again",
        )


EXERCISES = (
    Exercise(
        title="Count the evaluations",
        task="How often is a body evaluated in one training step of a chain, for "
        "`memory` `'store'`, `'checkpoint'` and `'invert'`?",
        solution=evaluations,
        check=_check_evaluations,
        hint="Backward evaluates each body at the stream it has just rebuilt, with a "
        "graph. Does the inverse need another evaluation?",
        wrong=(_one_too_many,),
    ),
    Exercise(
        title="The gradient of v",
        task="The library learns v; the function from scratch returned None for it. Find its gradient by hand.",
        solution=gradient_of_v,
        check=_check_gradient,
        hint="v appears twice, with opposite signs.",
        wrong=(_forgets_f, _wrong_sign),
    ),
    Exercise(
        title="The square-root rule",
        task="Instead of inverting, you can store the pair of streams before every "
        "`stride` links and compute each segment again, storing one new stream a link "
        "while you walk through it. How many streams do you hold at most? Then try "
        "which stride is best for a hundred links; it is near a square root.",
        solution=checkpoint_streams,
        check=_check_streams,
        hint="The number of segments is rounded up.",
        wrong=(_forgets_the_segment, _rounds_down),
    ),
)

"""Exercises of chapter 11: fine-tuning end to end."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from idm_lib.notebook.exercise import Exercise, require
from idm_lib.training.config import OptimiserConfig
from idm_lib.training.optimiser import learning_rate

# 11.1 ---------------------------------------------------------------------------------


def log_mse(estimate: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the mean over the images of ln mse, a scalar; both are (B, 1, H, W)."""
    mse = (estimate - x).square().mean(dim=(1, 2, 3))  # (B,)
    return mse.log().mean()


def _logs_the_mean(estimate: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (estimate - x).square().mean().log()


def _logs_every_pixel(estimate: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (estimate - x).square().log().mean()


def _is_a_gain(estimate: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return -log_mse(estimate, x)


def _check_log_mse(answer: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, 8, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.1, 0.01, 0.001], dtype=torch.float64)[:, None, None, None]
    got, want = answer(x + scale * noise, x), log_mse(x + scale * noise, x)
    require(
        torch.is_tensor(got) and got.ndim == 0, "return a tensor without dimensions"
    )
    require(
        torch.allclose(got, want),
        f"for three images with errors of about 0.1, 0.01 and 0.001: {want:.3f}, not {got:.3f}; "
        "take the mean over the pixels, then the logarithm, then the mean over the images",
    )
    halved = answer(x + 0.5 * scale * noise, x)
    require(
        torch.allclose(got - halved, torch.tensor(2 * math.log(2), dtype=got.dtype)),
        "half of every error must lower the loss by 2 ln 2",
    )


# 11.2 ---------------------------------------------------------------------------------


def corners(seed: int, step: int, number: int, room: int) -> np.ndarray:
    """Return the top left corners of a step's crops, whole numbers below room, (number, 2)."""
    rng = np.random.RandomState([seed, step])
    return rng.randint(room, size=(number, 2))


def _goes_on_where_it_was(seed: int, step: int, number: int, room: int) -> np.ndarray:
    return np.random.randint(room, size=(number, 2))


def _forgets_the_step(seed: int, step: int, number: int, room: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(room, size=(number, 2))


def _adds_them(seed: int, step: int, number: int, room: int) -> np.ndarray:
    return np.random.RandomState(seed + step).randint(room, size=(number, 2))


def _check_corners(answer: Callable[..., Any]) -> None:
    first = [np.asarray(answer(3, step, 4, 100)) for step in range(6)]
    require(
        all(found.shape == (4, 2) for found in first),
        "four crops need four corners of two numbers: shape (4, 2)",
    )
    require(
        all(((found >= 0) & (found < 100)).all() for found in first),
        "a corner lies outside 0 … room − 1",
    )
    again = [np.asarray(answer(3, step, 4, 100)) for step in (5, 2)]
    require(
        np.array_equal(again[0], first[5]) and np.array_equal(again[1], first[2]),
        "asked for step 5 and then step 2 once more, it returns other corners than before: a resumed "
        "run would see other crops; make a generator of its own for each step",
    )
    require(
        not any(np.array_equal(first[0], other) for other in first[1:]),
        "two steps get the same corners; the step must be part of the generator's seed",
    )
    require(
        not np.array_equal(answer(4, 2, 4, 100), first[3]),
        "run 4 sees at step 2 what run 3 sees at step 3: give the generator both numbers, not their sum",
    )


# 11.3 ---------------------------------------------------------------------------------


def rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (steps - warmup)
    cosine = 0.5 * (1 + np.cos(np.pi * progress))  # from 1 to 0
    return peak * (0.01 + 0.99 * cosine)


def _starts_high(step: int, steps: int, peak: float, warmup: int) -> float:
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _ends_at_zero(step: int, steps: int, peak: float, warmup: int) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _begins_at_zero(step: int, steps: int, peak: float, warmup: int) -> float:
    return peak * step / warmup if step < warmup else rate(step, steps, peak, warmup)


def _check_rate(answer: Callable[..., Any]) -> None:
    for steps, peak, warmup in ((100, 1e-3, 10), (48, 3e-4, 5)):
        rules = OptimiserConfig(lr=peak, warmup=warmup)
        for step in (0, warmup - 1, warmup, steps // 2, steps - 1, steps):
            want, got = (
                learning_rate(step, steps, rules),
                answer(step, steps, peak, warmup),
            )
            require(
                math.isclose(got, want, rel_tol=1e-6),
                f"step {step} of {steps}, peak {peak:g}, warm-up {warmup}: {want:.3g}, not {got:.3g}",
            )


# 11.4 ---------------------------------------------------------------------------------


def averaged(course: list, decay: float) -> float:
    """Return the average after all of a weight's values, which begins as the first of them."""
    average = course[0]
    for value in course[1:]:
        average = decay * average + (1 - decay) * value
    return average


def _starts_at_zero(course: list, decay: float) -> float:
    average = 0.0
    for value in course:
        average = decay * average + (1 - decay) * value
    return average


def _swaps_the_shares(course: list, decay: float) -> float:
    return averaged(course, 1 - decay)


def _plain_mean(course: list, decay: float) -> float:
    return sum(course) / len(course)


def _check_averaged(answer: Callable[..., Any]) -> None:
    for decay in (0.5, 0.9):
        weight = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        average = AveragedModel(weight, multi_avg_fn=get_ema_multi_avg_fn(decay))
        course = [1.0, 3.0, -2.0, 0.5]
        for value in course:
            weight.weight.data.fill_(value)
            average.update_parameters(weight)
        want = average.module.weight.item()
        got = answer(course, decay)
        require(
            math.isclose(got, want, rel_tol=1e-9),
            f"{course} with a decay of {decay}: {want:.4f}, not {got:.4f}; the average begins as the first "
            "value, and keeps a share `decay` of itself at every further one",
        )


EXERCISES = (
    Exercise(
        title="The loss",
        task="Write the loss of this chapter's run: the mean over the images of the logarithm of each one's mean "
        "square error.",
        solution=log_mse,
        check=_check_log_mse,
        hint="`tensor.mean(dim=(1, 2, 3))` averages over all but the first dimension.",
        wrong=(_logs_the_mean, _logs_every_pixel, _is_a_gain),
    ),
    Exercise(
        title="The same crops again",
        task="Draw the corners of a step's crops so that a run which resumes at that step sees the same ones. They "
        "may depend on the seed and the step, and on nothing that was drawn before.",
        solution=corners,
        check=_check_corners,
        hint="`np.random.RandomState` takes a list of numbers as its seed.",
        wrong=(_goes_on_where_it_was, _forgets_the_step, _adds_them),
    ),
    Exercise(
        title="Warm up, cool down",
        task="The rate rises in a straight line to its peak, which it reaches in the last of `warmup` steps. Then it "
        "falls along half a cosine to a hundredth of the peak, which it would reach at step `steps`.",
        solution=rate,
        check=_check_rate,
        hint="Steps count from 0, and the first one must not have a rate of zero. After the warm-up, "
        "`0.5 * (1 + cos(π·progress))` falls from 1 to 0.",
        wrong=(_starts_high, _ends_at_zero, _begins_at_zero),
    ),
    Exercise(
        title="The average, by hand",
        task="A weight took the values in `course`, one after each update. What is its exponential moving average at "
        "the end?",
        solution=averaged,
        check=_check_averaged,
        hint="One line in a loop: a share `decay` of the old average, the rest of the new value.",
        wrong=(_starts_at_zero, _swaps_the_shares, _plain_mean),
    ),
)

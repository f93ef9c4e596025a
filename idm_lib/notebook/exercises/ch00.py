"""Exercises of chapter 00: one photo, a tenth of the numbers."""

import math
from collections.abc import Callable

import torch

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require


def _random_image(size: tuple[int, int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 1, *size, generator=generator, dtype=torch.float64)


# 00.1 ---------------------------------------------------------------------------------


def decibels(estimate: torch.Tensor, x: torch.Tensor) -> float:
    """Return the PSNR of an estimate of x in dB; pixels outside [0, 1] are cut off."""
    error = estimate.clamp(0, 1) - x
    return float(-10 * error.square().mean().log10())


def _forgets_to_clamp(estimate: torch.Tensor, x: torch.Tensor) -> float:
    return float(-10 * (estimate - x).square().mean().log10())


def _forgets_the_square(estimate: torch.Tensor, x: torch.Tensor) -> float:
    return float(-10 * (estimate.clamp(0, 1) - x).abs().mean().log10())


def _check_decibels(answer: Callable[..., float]) -> None:
    x = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    got = float(answer(x + 0.1, x))
    message = "an error of 0.1 everywhere is a mean square of 0.01, so 20 dB"
    require(abs(got - 20) < 1e-6, f"{message}; yours gives {got:.2f} dB.")
    for size, seed in (((9, 13), 0), ((32, 32), 1)):
        x = _random_image(size, seed)
        estimate = x + 0.4 * (_random_image(size, seed + 7) - 0.5)
        right = decibels(estimate, x)
        got = float(answer(estimate, x))
        unclamped = _forgets_to_clamp(estimate, x)
        require(
            abs(got - unclamped) > 1e-9,
            "a screen shows nothing below 0 or above 1: cut the estimate off before you compare.",
        )
        require(
            abs(got - right) < 1e-6,
            f"for a random image {right:.3f} dB was expected, yours gives {got:.3f}.",
        )


# 00.2 ---------------------------------------------------------------------------------


def misfit(op: idm.LinearOperator, y: torch.Tensor, image: torch.Tensor) -> float:
    """Return how badly an image explains y: the length of A x̂ − y over that of y."""
    return float((op.A(image) - y).norm() / y.norm())


def _compares_images(
    op: idm.LinearOperator, y: torch.Tensor, image: torch.Tensor
) -> float:
    back = op.A_adjoint(y)
    return float((back - image).norm() / back.norm())


def _forgets_to_divide(
    op: idm.LinearOperator, y: torch.Tensor, image: torch.Tensor
) -> float:
    return float((op.A(image) - y).norm())


def _check_misfit(answer: Callable[..., float]) -> None:
    for size, ratio, seed in (((24, 40), 0.2, 0), ((32, 32), 0.5, 1)):
        op = idm.BlockCS(size, ratio, seed=seed)
        x = _random_image(size, seed)
        y = op.A(x)
        got = float(answer(op, y, op.A_dagger(y)))
        require(
            got < 1e-9,
            f"the pseudo-inverse explains every measurement, so its misfit is 0; yours says {got:.2g}. "
            "Measure the image, and compare measurements with measurements.",
        )
        got = float(answer(op, y, torch.zeros_like(x)))
        require(
            abs(got - 1) < 1e-9,
            f"a black image misses all of y, so its misfit is 1; yours says {got:.3g}. Divide by the length of y.",
        )
        got, right = float(answer(op, y, 0.7 * x)), 0.3
        require(
            abs(got - right) < 1e-9,
            f"an image at 70 % of its brightness misses 30 % of y; yours says {got:.3g}.",
        )


# 00.3 ---------------------------------------------------------------------------------


def predicted_decibels(
    held: idm.LinearOperator, y_held: torch.Tensor, estimate: torch.Tensor
) -> float:
    """Return the PSNR in dB that held-back measurements predict for an estimate."""
    off = y_held - held.A(estimate)  # each a random sum over the error
    return float(-10 * off.square().mean().log10())


def _sums_instead_of_averaging(
    held: idm.LinearOperator, y_held: torch.Tensor, estimate: torch.Tensor
) -> float:
    return float(-10 * (y_held - held.A(estimate)).square().sum().log10())


def _relative(
    held: idm.LinearOperator, y_held: torch.Tensor, estimate: torch.Tensor
) -> float:
    off = (y_held - held.A(estimate)).square().mean() / y_held.square().mean()
    return float(-10 * off.log10())


def _check_predicted(answer: Callable[..., float]) -> None:
    for size, ratio, seed in (((64, 64), 0.05, 0), ((32, 96), 0.1, 3)):
        held = idm.BlockCS(size, ratio, seed=seed)
        x = _random_image(size, seed)
        for strength in (0.02, 0.2):
            error = strength * (_random_image(size, seed + 11) - 0.5)
            right = predicted_decibels(held, held.A(x), x + error)
            true = float(-10 * error.square().mean().log10())
            got = float(answer(held, held.A(x), x + error))
            require(
                abs(got - true) < 3,
                f"an estimate of {true:.1f} dB was judged to be of {got:.1f} dB. Each held-back number is off by "
                "about as much as a single pixel is: take the mean of the squares, and do not divide by y.",
            )
            require(
                abs(got - right) < 1e-6,
                f"close, but {right:.3f} dB was expected and yours is {got:.3f}.",
            )


# 00.4 ---------------------------------------------------------------------------------


def smallest_ratio(quality: Callable[[float], float], target: float) -> float:
    """Return the smallest ratio in (0, 1], to 0.001, at which quality(ratio) reaches target."""
    low, high = 0.0, 1.0  # too little, surely enough
    while high - low > 0.001:
        middle = (low + high) / 2
        if quality(middle) >= target:
            high = middle
        else:
            low = middle
    return high


def _tries_a_few(quality: Callable[[float], float], target: float) -> float:
    return next(r for r in (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0) if quality(r) >= target)


def _returns_too_little(quality: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (low, middle) if quality(middle) >= target else (middle, high)
    return low


def _check_smallest(answer: Callable[..., float]) -> None:
    for target in (21.0, 25.0, 33.3):
        calls = []

        def quality(ratio: float, calls: list[float] = calls) -> float:
            calls.append(ratio)
            require(
                0 < ratio <= 1,
                f"you asked for a ratio of {ratio:g}; it must lie in (0, 1].",
            )
            require(
                len(calls) <= 200,
                "more than 200 reconstructions for one answer: halve the interval instead.",
            )
            return 40 + 10 * math.log10(ratio)

        right = 10 ** ((target - 40) / 10)
        got = float(answer(quality, target))
        message = f"for a target of {target:g} dB the smallest ratio is {right:.4f}, yours is {got:.4f}"
        require(
            40 + 10 * math.log10(max(got, 1e-9)) >= target - 1e-9,
            f"{message}: that is too little to reach it.",
        )
        require(got - right <= 0.0011, f"{message}: less would do.")


EXERCISES = (
    Exercise(
        title="Decibels",
        task=(
            "Write PSNR: cut the estimate off at 0 and 1, take the mean of the squared error $m$, and return "
            "$-10 \\log_{10} m$. Every result in this book is in this unit, so write it once yourself."
        ),
        solution=decibels,
        check=_check_decibels,
        hint="`estimate.clamp(0, 1)`, then `.square().mean().log10()`.",
        wrong=(_forgets_to_clamp, _forgets_the_square),
    ),
    Exercise(
        title="Does it explain the measurements?",
        task=(
            "All four pictures in this chapter explain the same $y$, so no measurement can tell which is right. "
            "Check such claims yourself: return $\\lVert A\\hat x - y \\rVert / \\lVert y \\rVert$."
        ),
        solution=misfit,
        check=_check_misfit,
        hint="`op.A(image)` measures the image. `.norm()` is the length of a tensor of any shape.",
        wrong=(_compares_images, _forgets_to_divide),
    ),
    Exercise(
        title="Judge a picture without the original",
        task=(
            "`held` measures the few numbers that were put aside, `y_held`. Predict the PSNR of an estimate from "
            "them. You need one fact: a measurement with random weights of total length one is off by about as "
            "much as one pixel is, so the mean square of the one estimates the mean square of the other."
        ),
        solution=predicted_decibels,
        check=_check_predicted,
        hint="Measure the estimate with `held.A`, subtract from `y_held`, and continue as in exercise 00.1.",
        wrong=(_sums_instead_of_averaging, _relative),
    ),
    Exercise(
        title="How little is enough?",
        task=(
            "You want a picture of a given quality from as few numbers as possible. `quality(ratio)` runs a "
            "reconstruction and returns its PSNR, which grows with the ratio; each call is costly. Find the "
            "smallest ratio that reaches the target, to within 0.001, by halving an interval."
        ),
        solution=smallest_ratio,
        check=_check_smallest,
        hint="Keep a `low` that is not enough and a `high` that is. Try the middle; it becomes one of the two.",
        wrong=(_tries_a_few, _returns_too_little),
    ),
)

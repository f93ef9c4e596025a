"""Exercises of chapter 13: does it work?"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from idm_lib.notebook.exercise import Exercise, require

# 13.1 ---------------------------------------------------------------------------------


def average_psnr(images: list, truths: list) -> float:
    """Return the average PSNR in dB of images against truths, arrays in [0, 1]."""
    decibels = []
    for image, truth in zip(images, truths, strict=True):
        mse = np.mean((np.clip(image, 0, 1) - truth) ** 2)
        decibels.append(-10 * math.log10(mse))
    return sum(decibels) / len(decibels)


def _pools_the_errors(images: list, truths: list) -> float:
    pairs = zip(images, truths, strict=True)
    errors = [np.mean((np.clip(a, 0, 1) - b) ** 2) for a, b in pairs]
    return -10 * math.log10(sum(errors) / len(errors))


def _does_not_clip(images: list, truths: list) -> float:
    pairs = zip(images, truths, strict=True)
    decibels = [-10 * math.log10(np.mean((a - b) ** 2)) for a, b in pairs]
    return sum(decibels) / len(decibels)


def _rounds_to_bytes(images: list, truths: list) -> float:
    return average_psnr([np.round(a * 255) / 255 for a in images], truths)


def _check_average_psnr(answer: Callable[..., Any]) -> None:
    rng = np.random.RandomState(0)
    truths = [rng.rand(16, 16) for _ in range(2)]
    inside = [
        np.clip(t + s * rng.randn(16, 16), 0, 1)
        for t, s in zip(truths, (0.1, 0.001), strict=True)
    ]
    got, want = answer(inside, truths), average_psnr(inside, truths)
    require(
        math.isclose(got, want, rel_tol=1e-9),
        f"two images with errors of about 0.1 and 0.001: {want:.4f} dB, not {got:.4f}; "
        "average the decibels, not the errors, and do not round the pixels",
    )
    outside = [t + 0.3 * rng.randn(16, 16) for t in truths]
    got, want = answer(outside, truths), average_psnr(outside, truths)
    require(
        math.isclose(got, want, rel_tol=1e-9),
        f"pixels below 0 or above 1 are to be clipped first: {want:.4f} dB, not {got:.4f}",
    )


# 13.2 ---------------------------------------------------------------------------------


def paired_gain(ours: list, theirs: list) -> tuple:
    """Return the mean of the differences, image by image, and its standard error."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)
    return mean, math.sqrt(variance / len(gaps))


def _treats_them_as_strangers(ours: list, theirs: list) -> tuple:
    mean = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    spread = np.var(ours, ddof=1) + np.var(theirs, ddof=1)
    return mean, math.sqrt(spread / len(ours))


def _forgets_the_number(ours: list, theirs: list) -> tuple:
    mean, error = paired_gain(ours, theirs)
    return mean, error * math.sqrt(len(ours))


def _turns_it_round(ours: list, theirs: list) -> tuple:
    return paired_gain(theirs, ours)


def _check_paired_gain(answer: Callable[..., Any]) -> None:
    ours, theirs = [24.0, 31.0, 36.2, 40.1], [23.5, 30.7, 36.0, 39.5]
    got = answer(ours, theirs)
    require(len(got) == 2, "return two numbers: the mean and its standard error")
    want = paired_gain(ours, theirs)
    require(
        math.isclose(got[0], want[0], rel_tol=1e-9),
        f"the mean difference is {want[0]:.3f}, not {got[0]:.3f}: ours minus theirs",
    )
    require(
        math.isclose(got[1], want[1], rel_tol=1e-9),
        f"its standard error is {want[1]:.4f}, not {got[1]:.4f}: the standard deviation of the "
        "differences (divide by n − 1), over √n",
    )


# 13.3 ---------------------------------------------------------------------------------


def suspicious(misses: int, cases: int) -> bool:
    """Say whether so many misses or more would befall honest 95 % intervals in fewer than 5 % of studies."""
    at_least = sum(
        math.comb(cases, k) * 0.05**k * 0.95 ** (cases - k)
        for k in range(misses, cases + 1)
    )
    return at_least < 0.05


def _wants_exactly_five_percent(misses: int, cases: int) -> bool:
    return misses > 0.05 * cases


def _counts_only_this_many(misses: int, cases: int) -> bool:
    chance = math.comb(cases, misses) * 0.05**misses * 0.95 ** (cases - misses)
    return chance < 0.05


def _looks_below(misses: int, cases: int) -> bool:
    at_most = sum(
        math.comb(cases, k) * 0.05**k * 0.95 ** (cases - k) for k in range(misses + 1)
    )
    return at_most < 0.05


def _check_suspicious(answer: Callable[..., Any]) -> None:
    for misses, cases in (
        (0, 33),
        (2, 33),
        (4, 33),
        (5, 33),
        (0, 100),
        (9, 100),
        (10, 100),
    ):
        got, want = answer(misses, cases), suspicious(misses, cases)
        require(
            bool(got) is want,
            f"{misses} misses of {cases}: {want}, not {bool(got)}; add up the chances of this many "
            "misses and of every larger number",
        )


# 13.4 ---------------------------------------------------------------------------------


def undominated(methods: dict) -> set:
    """Return the names that no other beats: methods maps a name to (network calls, dB)."""
    return {
        name
        for name, (calls, quality) in methods.items()
        if not any(
            c <= calls and q >= quality and (c, q) != (calls, quality)
            for c, q in methods.values()
        )
    }


def _only_the_best(methods: dict) -> set:
    return {max(methods, key=lambda name: methods[name][1])}


def _must_win_both(methods: dict) -> set:
    return {
        name
        for name, (calls, quality) in methods.items()
        if not any(c < calls and q > quality for c, q in methods.values())
    }


def _counts_only_calls(methods: dict) -> set:
    least = min(calls for calls, _ in methods.values())
    return {name for name, (calls, _) in methods.items() if calls == least}


def _check_undominated(answer: Callable[..., Any]) -> None:
    methods = {
        "a": (100, 30.0),
        "b": (8, 29.0),
        "c": (16, 29.0),
        "d": (20, 31.0),
        "e": (8, 28.0),
        "f": (1, 20.0),
    }
    got, want = set(answer(methods)), undominated(methods)
    require(
        got == want,
        f"of {methods}: {sorted(want)}, not {sorted(got)}; a method is beaten by one that needs no more calls, is no "
        "worse, and is better in one of the two",
    )


EXERCISES = (
    Exercise(
        title="The field's number",
        task="Write the average PSNR of a test set as the field computes it: float pixels, clipped to [0, 1], not "
        "rounded, decibels for each image, then their average.",
        solution=average_psnr,
        check=_check_average_psnr,
        hint="`np.clip`, `np.mean`, `-10 * math.log10(…)` for one image; a list of those.",
        wrong=(_pools_the_errors, _does_not_clip, _rounds_to_bytes),
    ),
    Exercise(
        title="Pairs",
        task="Two methods saw the same images. By how many decibels is the first ahead on average, and how sure is "
        "that average?",
        solution=paired_gain,
        check=_check_paired_gain,
        hint="Take the differences first. Then forget where they came from: mean, and standard deviation over √n.",
        wrong=(_treats_them_as_strangers, _forgets_the_number, _turns_it_round),
    ),
    Exercise(
        title="Too many misses?",
        task="Of `cases` intervals that promise 95 %, `misses` did not hold the truth. Is that suspicious, or would "
        "honest and independent intervals do as badly in at least one study of twenty?",
        solution=suspicious,
        check=_check_suspicious,
        hint="The number of misses of honest intervals is binomial: `math.comb(n, k) * p**k * (1 - p)**(n - k)`.",
        wrong=(_wants_exactly_five_percent, _counts_only_this_many, _looks_below),
    ),
    Exercise(
        title="Who is beaten?",
        task="Return the methods that are beaten by no other: none needs as few calls and is as good, and better in "
        "one of the two.",
        solution=undominated,
        check=_check_undominated,
        hint="For each method, ask `any(…)` over all of them.",
        wrong=(_only_the_best, _must_win_both, _counts_only_calls),
    ),
)

"""Exercises of chapter 15: how far it stretches."""

import math
from collections.abc import Callable
from typing import Any

from idm_lib.notebook.exercise import Exercise, require

# 15.1 ---------------------------------------------------------------------------------


def unbeaten(points: dict) -> list:
    """Return the names that no other beats in both, least work first.

    points: name → (forward units, GiB). Who is at least as good in both, and better in
    one, beats.
    """

    def beats(a: tuple, b: tuple) -> bool:
        return a != b and a[0] <= b[0] and a[1] <= b[1]

    kept = [
        n for n, p in points.items() if not any(beats(q, p) for q in points.values())
    ]
    return sorted(kept, key=lambda name: points[name])


def _strictly_in_both(points: dict) -> list:
    kept = [
        n
        for n, p in points.items()
        if not any(q[0] < p[0] and q[1] < p[1] for q in points.values())
    ]
    return sorted(kept, key=lambda name: points[name])


def _by_memory(points: dict) -> list:
    return unbeaten(points)[::-1]


def _best_product(points: dict) -> list:
    return [min(points, key=lambda name: points[name][0] * points[name][1])]


def _check_unbeaten(answer: Callable[..., Any]) -> None:
    line = {"a": (3.0, 100.0), "b": (4.0, 9.0), "c": (5.0, 7.0)}
    cases = (
        (line, "of three that trade one for the other, none is beaten"),
        (
            line | {"d": (5.0, 8.0)},
            "d does the work of c and needs more memory: c beats it",
        ),
        (line | {"e": (6.0, 200.0)}, "e is worse than every other in both"),
        (
            {"a": (3.0, 10.0), "b": (3.0, 10.0)},
            "two that are equal do not beat each other",
        ),
    )
    for points, why in cases:
        want, got = unbeaten(points), list(answer(points))
        require(set(got) == set(want), f"{points}: expected {want}, not {got}; {why}")
        require(got == want, f"{points}: the names are right; put the least work first")


# 15.2 ---------------------------------------------------------------------------------


def extend(counted: dict, T: int) -> float:
    """Return the GiB at T from the line through the two smallest T of counted (T → GiB).

    If another counted point misses that line by more than a thousandth, raise ValueError.
    """
    (a, at_a), (b, at_b), *others = sorted(counted.items())

    def line(t: int) -> float:
        return at_a + (at_b - at_a) * (t - a) / (b - a)

    if any(abs(line(t) - gib) > 1e-3 * gib for t, gib in others):
        raise ValueError("not on one line")
    return line(T)


def _unchecked(counted: dict, T: int) -> float:
    (a, at_a), (b, at_b), *_ = sorted(counted.items())
    return at_a + (at_b - at_a) * (T - a) / (b - a)


def _through_zero(counted: dict, T: int) -> float:
    extend(counted, T)
    a, at_a = min(counted.items())
    return at_a * T / a


def _check_extend(answer: Callable[..., Any]) -> None:
    for counted, T in (
        ({3: 5.0, 5: 6.0, 10: 8.5}, 30),
        ({10: 8.5, 5: 6.0, 3: 5.0}, 100),
    ):
        want, got = extend(counted, T), answer(dict(counted), T)
        require(
            math.isclose(got, want, rel_tol=1e-6),
            f"{counted} at T = {T}: {want:g} GiB, not {got:g}; start from the smallest T's "
            "value and add the same for every further step",
        )
    bent = {3: 5.0, 5: 6.0, 10: 9.5}
    try:
        got = answer(dict(bent), 30)
    except ValueError:
        return
    require(
        False,
        f"{bent} is not on one line, and yet you say {got:g} at T = 30; check the points "
        "that the line was not drawn through, and raise ValueError",
    )


# 15.3 ---------------------------------------------------------------------------------


def largest_side(small: tuple, large: tuple, card: float, step: int = 64) -> int:
    """Return the largest side, a multiple of step, of an image that fits into card GiB.

    small, large: (side, GiB) of two images; GiB grow in proportion to the added pixels.
    """
    (a, at_a), (b, at_b) = small, large
    slope = (at_b - at_a) / (b**2 - a**2)
    pixels = a**2 + (card - at_a) / slope
    return int(math.sqrt(max(pixels, 0.0)) / step + 1e-9) * step


def _by_side(small: tuple, large: tuple, card: float, step: int = 64) -> int:
    (a, at_a), (b, at_b) = small, large
    return int((a + (card - at_a) * (b - a) / (at_b - at_a)) / step) * step


def _nothing_fixed(small: tuple, large: tuple, card: float, step: int = 64) -> int:
    b, at_b = large
    return int(b * math.sqrt(card / at_b) / step) * step


def _rounds_up(small: tuple, large: tuple, card: float, step: int = 64) -> int:
    return largest_side(small, large, card, step) + step


def _check_side(answer: Callable[..., Any]) -> None:
    for small, large, card in (
        ((256, 3.0), (512, 6.0), 6.0),
        ((256, 3.0), (512, 6.0), 24.0),
        ((256, 2.5), (1024, 20.0), 16.0),
        ((256, 3.0), (512, 6.0), 7.0),
    ):
        want, got = largest_side(small, large, card), answer(small, large, card)
        require(
            got == want,
            f"{small[1]:g} GiB at {small[0]}², {large[1]:g} at {large[0]}², a card of "
            f"{card:g}: {want}, not {got}; part of the memory does not grow, the rest "
            "grows with the square of the side; then round down",
        )


# 15.4 ---------------------------------------------------------------------------------


def anchors(T: int, v: float, bits: int, left: int) -> int:
    """Return how few states have to be kept so that no rebuilt state has lost too much.

    Streams of `bits` bits lose math.log2(1/v) a link; `left` bits have to be good at the end
    of each stretch that is inverted. The final state is there anyway, and not counted.
    """
    longest = int((bits - left) / math.log2(1 / v) + 1e-9)
    return math.ceil(T / longest) - 1


def _counts_the_last(T: int, v: float, bits: int, left: int) -> int:
    return anchors(T, v, bits, left) + 1


def _a_bit_a_link(T: int, v: float, bits: int, left: int) -> int:
    return anchors(T, 0.5, bits, left)


def _to_the_last_bit(T: int, v: float, bits: int, left: int) -> int:
    return anchors(T, v, bits, 0)


def _check_anchors(answer: Callable[..., Any]) -> None:
    for T, v, bits, left in (
        (3, 0.5, 24, 8),
        (16, 0.5, 24, 8),
        (17, 0.5, 24, 8),
        (100, 0.5, 53, 8),
        (100, 0.25, 53, 8),
        (100, 0.9, 24, 11),
    ):
        want, got = anchors(T, v, bits, left), answer(T, v, bits, left)
        require(
            got == want,
            f"T = {T}, v = {v}, {bits} bits of which {left} have to stay: {want} anchors, "
            f"not {got}; how many links can one stretch have, and how many stretches are there?",
        )


EXERCISES = (
    Exercise(
        title="Draw the frontier",
        task="Which policies are worth having? Keep those that no other beats.",
        solution=unbeaten,
        check=_check_unbeaten,
        hint="Compare every point with every other. With equal work, the smaller one wins.",
        wrong=(_strictly_in_both, _by_memory, _best_product),
    ),
    Exercise(
        title="Follow a line, if there is one",
        task="A point costs time to count, and counting a hundred steps takes long. Extrapolate from two "
        "counted points, but only if the others agree.",
        solution=extend,
        check=_check_extend,
        hint="Sort by $T$. Two points give the line; every further one is a test of it.",
        wrong=(_unchecked, _through_zero),
    ),
    Exercise(
        title="How large an image fits?",
        task="You counted two image sizes. How large may one image be on your card?",
        solution=largest_side,
        check=_check_side,
        hint="Draw GiB against pixels, not against the side, and find where the line meets the card.",
        wrong=(_by_side, _nothing_fixed, _rounds_up),
    ),
    Exercise(
        title="How many anchors?",
        task="Invert $T$ links, and keep a state now and then so that rounding cannot grow too far.",
        solution=anchors,
        check=_check_anchors,
        hint="The bits that may be lost, divided by the bits that a link costs, give the longest stretch.",
        wrong=(_counts_the_last, _a_bit_a_link, _to_the_last_bit),
    ),
)

"""Which pixels, or which frequencies, are measured: masks (H, W) of bool, True where they are.

Each pattern depends on its numbers and seed alone, and keeps at least the share γ that is asked for.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from idm_lib.errors import InputError
from idm_lib.operators.base import rows
from idm_lib.operators.random import MASK

_GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2  # every further spoke falls into one of the widest gaps


def random_pixels(size: tuple[int, int], ratio: float, seed: int) -> np.ndarray:
    """⌈γHW⌉ pixels at random; those of a lower ratio are among those of a higher one."""
    pixels = math.prod(size)
    mask = np.zeros(pixels, dtype=bool)
    mask[_stream(seed).permutation(pixels)[: rows(ratio, pixels)]] = True
    return mask.reshape(size)


def around_a_box(size: tuple[int, int], ratio: float, seed: int) -> np.ndarray:
    """All but a rectangle of the image's own proportions, of area (1 − γ)HW at most, anywhere inside."""
    height, width = (math.floor(side * math.sqrt(1 - ratio) + 1e-9) for side in size)
    stream = _stream(seed)
    top, left = stream.randint(0, size[0] - height + 1), stream.randint(0, size[1] - width + 1)
    mask = np.ones(size, dtype=bool)
    mask[top : top + height, left : left + width] = False
    return mask


def between_strokes(size: tuple[int, int], ratio: float, seed: int) -> np.ndarray:
    """All but words of a made-up script, written over the image until (1 − γ)HW pixels are hidden.

    A letter joins a few points of a 3 × 3 grid by strokes; a word is some letters in a row.
    """
    stream = _stream(seed)
    left_to_hide = math.prod(size) - rows(ratio, math.prod(size))
    cell = max(4, min(size) // 8)  # height of a letter, pixels
    thickness = max(1, cell // 6)
    mask = np.ones(size, dtype=bool)
    while left_to_hide:
        origin = np.array([stream.randint(-cell, size[0]), stream.randint(-cell, size[1])])
        for letter in range(stream.randint(2, 8)):
            joints = stream.randint(0, 3, (stream.randint(3, 6), 2)) * (cell // 2)  # (J, 2)
            for start, end in pairwise(joints):
                along = np.linspace(0, 1, 2 * cell)[:, None]
                line = np.rint(start + along * (end - start)).astype(int) + origin + [0, letter * (cell + thickness)]
                pen = np.stack(np.meshgrid(*2 * [np.arange(thickness)], indexing="ij"), -1).reshape(-1, 2)
                ink = (line[:, None] + pen).reshape(-1, 2)
                ink = ink[((ink >= 0) & (ink < size)).all(axis=1)]
                fresh = np.unique(ink[mask[tuple(ink.T)]], axis=0)[:left_to_hide]  # (≤ left_to_hide, 2)
                mask[tuple(fresh.T)] = False
                left_to_hide -= len(fresh)
    return mask


def cartesian_lines(size: tuple[int, int], ratio: float, seed: int, centre: float) -> np.ndarray:
    """⌈γW⌉ whole columns of centred k-space: ⌈centre·W⌉ of them in the middle (or fewer, if γ is), others random.

    The sampling of the fastMRI challenge (arXiv 1811.08839, section 4.4), with a fixed number of columns.
    """
    width = size[1]
    wanted = rows(ratio, width)
    middle = min(wanted, max(1, rows(centre, width)))
    first = width // 2 - middle // 2
    columns = np.zeros(width, dtype=bool)
    columns[first : first + middle] = True
    others = _stream(seed).permutation(np.flatnonzero(~columns))
    columns[others[: wanted - middle]] = True
    return np.broadcast_to(columns, size).copy()


def radial_spokes(size: tuple[int, int], ratio: float, seed: int) -> np.ndarray:
    """Diameters through the centre of k-space, a golden angle apart, on the nearest grid points, until γHW are in."""
    angle = _stream(seed).uniform(0, math.pi)
    radius = np.arange(-math.hypot(*size) / 2 - 1, math.hypot(*size) / 2 + 1, 0.5)
    mask = np.zeros(size, dtype=bool)
    mask[size[0] // 2, size[1] // 2] = True
    while mask.sum() < rows(ratio, mask.size):
        down = np.rint(size[0] // 2 + radius * math.sin(angle)).astype(int)
        right = np.rint(size[1] // 2 + radius * math.cos(angle)).astype(int)
        inside = (down >= 0) & (down < size[0]) & (right >= 0) & (right < size[1])
        mask[down[inside], right[inside]] = True
        angle += _GOLDEN_ANGLE
    return mask


def check_mask(mask: Any, size: tuple[int, int]) -> np.ndarray:
    """Return a given mask as (H, W) of bool.

    Raises:
        InputError: another shape, values other than 0 and 1 (NaN is one), or nothing measured at all.
    """
    array = array_of(mask, "mask")
    if array.shape != tuple(size):
        raise InputError(f"mask must have shape {tuple(size)}, the image's size; got {array.shape}.")
    if array.dtype.kind not in "buif" or not np.isin(array, (0, 1)).all():
        raise InputError("mask must hold only 1, measured, and 0, not measured; got other values, or NaN.")
    if not array.any():
        raise InputError("mask must have a 1 somewhere; got only 0, which measures nothing.")
    return array.astype(bool)


def array_of(values: Any, name: str) -> np.ndarray:
    """Given values as an array.

    Raises:
        InputError: they make none, as rows of several lengths.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} must be an array, or lists of one length that make one: {error}.") from None


def chosen_pattern(pattern: str, patterns: dict[str, Callable[..., np.ndarray]]) -> Callable[..., np.ndarray]:
    """The function of that name.

    Raises:
        InputError: there is none.
    """
    if pattern not in patterns:
        raise InputError(f"pattern must be one of {', '.join(patterns)}; got {pattern!r}.")
    return patterns[pattern]


def _stream(seed: int) -> np.random.RandomState:
    return np.random.RandomState([seed, MASK])

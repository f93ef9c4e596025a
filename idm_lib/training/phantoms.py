"""Phantoms: pictures of nothing but ellipses, with the smooth insides and sharp edges of a body in a scanner."""

import numpy as np


def phantom(side: int, rng: np.random.RandomState, organs: int = 12) -> np.ndarray:
    """One random phantom: a body with a rim, and ellipses inside it that add to its density or take from it.

    Made in the manner of Shepp and Logan's head (IEEE Trans. Nucl. Sci. 21(3), 1974), but drawn at random. It is
    no image of a patient, and what is learned from it says nothing of one.

    Args:
        side: pixels.
        rng: what the phantom depends on.
        organs: the most ellipses inside; at least a quarter of them are drawn.

    Returns:
        (side, side) uint8.
    """
    down, right = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 - 1] * 2, indexing="ij")  # each in (−1, 1)
    width, height, turn = rng.uniform(0.55, 0.9), rng.uniform(0.65, 0.95), rng.uniform(-0.3, 0.3)
    rim, inside = rng.uniform(0.03, 0.1), rng.uniform(0.2, 0.5)
    image = rng.uniform(0.6, 1.0) * _ellipse(down, right, 0, 0, height, width, turn)
    body = _ellipse(down, right, 0, 0, height - rim, width - rim, turn)
    image += (inside - image) * body
    for _ in range(rng.randint(max(1, organs // 4), organs + 1)):
        radius, angle = 0.7 * np.sqrt(rng.rand()), rng.uniform(0, 2 * np.pi)
        where = (radius * height * np.sin(angle), radius * width * np.cos(angle))
        axes = np.exp(rng.uniform(np.log(0.02), np.log(0.35), 2))
        organ = _ellipse(down, right, *where, *axes, rng.uniform(0, np.pi)) * body
        image += rng.choice([-1, 1]) * rng.uniform(0.02, 0.35) * organ
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _ellipse(
    down: np.ndarray, right: np.ndarray, row: float, column: float, tall: float, wide: float, turn: float
) -> np.ndarray:
    """How much of each pixel an ellipse covers, (side, side) in [0, 1], by the distance to its edge."""
    cos, sin = np.cos(turn), np.sin(turn)
    along, across = (right - column) * cos + (down - row) * sin, (down - row) * cos - (right - column) * sin
    distance = np.hypot(along / wide, across / tall)  # 1 at the edge
    slope = np.hypot(along / wide**2, across / tall**2) / np.maximum(distance, 1e-9)
    pixel = 2 / down.shape[0]
    return ((1 - distance) / np.maximum(slope * pixel, 1e-9) + 0.5).clip(0, 1)

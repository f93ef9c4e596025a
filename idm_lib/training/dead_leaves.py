"""Images without a camera: discs that fall on one another until nothing else is seen."""

import numpy as np


def dead_leaves(side: int, rng: np.random.RandomState, smallest: float = 1.5, texture: float = 0.04) -> np.ndarray:
    """One image of the dead-leaves model, whose edges and scales have the statistics of photographs.

    Radii r follow a density ~ r⁻³, which no change of scale alters. Each disc has its own grey and a weak grain.

    Args:
        side: pixels.
        rng: what the image depends on.
        smallest: least radius, pixels; the largest is half the side.
        texture: standard deviation of the grain, of 1.

    Returns:
        (side, side) uint8.

    Source: A. B. Lee, D. Mumford, J. Huang, "Occlusion models for natural images", IJCV 2001.
    """
    image = np.zeros((side, side), np.float32)
    bare, uncovered = np.ones((side, side), bool), side**2
    low, high = smallest**-2.0, (side / 2) ** -2.0
    # Front to back: what is covered stays. The last bare hundredth is the ground, for discs seldom fall just there.
    while uncovered > 0.01 * side**2:
        radius = (low + (high - low) * rng.rand()) ** -0.5
        row, column = rng.uniform(-radius, side + radius, 2)
        grey, grain = rng.rand(), texture * rng.rand()
        top, left = (max(0, int(c - radius)) for c in (row, column))
        bottom, right = (min(side, int(c + radius) + 2) for c in (row, column))
        rows, columns = np.ogrid[top:bottom, left:right]
        part = bare[top:bottom, left:right]
        new = part & ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)
        count = int(new.sum())
        if count:
            image[top:bottom, left:right][new] = grey + grain * rng.randn(count)
            part &= ~new
            uncovered -= count
    image[bare] = rng.rand()
    return (image.clip(0, 1) * 255).round().astype(np.uint8)

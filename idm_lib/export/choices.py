"""What a program without PyTorch needs to know of each ratio: which measurements to take, and which to hold back."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import chi2, norm
from torch import Tensor

from idm_lib.operators.base import rows
from idm_lib.operators.subset import split_indices

CONFIDENCE = 0.95


def choices(
    image_size: tuple[int, int], block_size: int, ratios: Sequence[float]
) -> tuple[list[dict[str, Any]], Tensor]:
    """For each ratio, what :func:`~idm_lib.operators.hold_back` and the prediction of quality need.

    Args:
        image_size, block_size: of the operator.
        ratios: γ of each, in (0, 1].

    Returns:
        A list of dictionaries, and the held-back measurements' indices of all ratios, (…,) int32. Of each ratio:
        ``ratio``; ``rows``, the q measurements of each block; ``held``, from where to where its indices lie;
        ``factors``, by which the 95 % interval's ends multiply the mean square of the held-back residuals, the
        larger first (see :func:`~idm_lib.evaluation.predict_quality`).
    """
    found: list[dict[str, Any]] = []
    indices: list[Tensor] = []
    tail, total = (1 - CONFIDENCE) / 2, 0
    for ratio in ratios:
        count = rows(ratio, block_size**2)
        _, held = split_indices(count * math.prod(image_size) // block_size**2)
        degrees = max(1, len(held) - 1)
        found.append(
            {
                "ratio": ratio,
                "rows": count,
                "held": [total, total + len(held)],
                "factors": [float(degrees / chi2.ppf(share, degrees)) for share in (tail, 1 - tail)],
            }
        )
        indices.append(torch.from_numpy(held).int())
        total += len(held)
    return found, torch.cat(indices)


def deviations() -> float:
    """The interval's half width in standard deviations of a Gaussian."""
    return float(norm.ppf((1 + CONFIDENCE) / 2))

"""Some of an operator's measurements: to hold a few back, and judge a reconstruction by them."""

import math
from typing import Self

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import LinearOperator, check_tensor
from idm_lib.operators.block_cs import BlockCS
from idm_lib.operators.random import HELD_BACK, check_seed


class Subset(LinearOperator):
    """The rows of ``op`` at ``indices``; orthonormal as op's are, so that again A⁺ = Aᵀ.

    Args:
        op: the whole operator.
        indices: (K,) int64, which of op's M measurements, none twice.
    """

    def __init__(self, op: BlockCS, indices: Tensor) -> None:
        super().__init__(op.noise_std)
        self.op = op
        self.indices = indices.to(op.device)
        self._device = op.device

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.op.image_size

    @property
    def measurements(self) -> int:
        """K."""
        return len(self.indices)

    @property
    def true_ratio(self) -> float:
        """K / (H·W)."""
        return self.measurements / math.prod(self.image_size)

    @property
    def orthonormal(self) -> bool:
        """As op's rows are."""
        return self.op.orthonormal

    def A(self, x: Tensor) -> Tensor:
        """The chosen measurements, (B, 1, H, W) → (B, K)."""
        return self.op.A(x)[:, self.indices]

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Put the chosen measurements back among zeros, then op's adjoint: (B, K) → (B, 1, H, W)."""
        check_tensor(y, "y", self.device)
        if y.dim() != 2 or y.shape[1] != self.measurements:
            raise InputError(f"y must have shape (B, {self.measurements}); got {tuple(y.shape)}; restrict it first.")
        return self.op.A_adjoint(y.new_zeros(len(y), self.op.measurements).index_copy(1, self.indices, y))

    def A_dagger(self, y: Tensor) -> Tensor:
        """Aᵀ y."""
        return self.A_adjoint(y)

    def to(self, device: torch.device | str) -> Self:
        """Move the whole operator and the choice, in place."""
        self.op.to(device)
        self.indices = self.indices.to(device)
        return super().to(device)


def hold_back(op: BlockCS, fraction: float = 0.01, at_least: int = 32, seed: int = 0) -> tuple[Subset, Subset]:
    """Split the measurements at random in two: those to reconstruct from, and a few to judge by.

    Args:
        op: measures (B, M).
        fraction: of the M measurements to hold back, in (0, 1).
        at_least: hold back no fewer than this (fewer say little), but never more than a quarter.
        seed: of the choice.

    Returns:
        ``(kept, held)``; with ``y = op.A(x)``, ``y[:, kept.indices]`` is what ``kept`` measures.
    """
    kept, held = split_indices(op.measurements, fraction, at_least, seed)
    return Subset(op, torch.from_numpy(kept)), Subset(op, torch.from_numpy(held))


def split_indices(
    total: int, fraction: float = 0.01, at_least: int = 32, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``total`` measurements :func:`hold_back` keeps, and which not: sorted, int64, without an operator.

    Raises:
        InputError: fraction outside (0, 1), or too few measurements to hold one back.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction must lie in (0, 1), as 0.01 for one in a hundred; got {fraction!r}.")
    count = min(max(math.ceil(fraction * total), at_least), total // 4)
    if count < 1:
        raise InputError(f"{total} measurements are too few to hold one back; expected at least 4.")
    order = np.random.RandomState([check_seed(seed), HELD_BACK]).permutation(total).astype(np.int64)
    return np.sort(order[count:]), np.sort(order[:count])

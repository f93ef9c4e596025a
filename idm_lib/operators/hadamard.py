"""The single-pixel camera: one detector behind patterns of ±1, which are rows of a Walsh–Hadamard matrix."""

import math

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_ratio, rows
from idm_lib.operators.image_operator import ImageOperator
from idm_lib.operators.random import ORDER, check_seed

ORDERINGS = ("sequency", "random")


class Hadamard(ImageOperator):
    """y = some rows of the orthonormal Walsh–Hadamard transform of the image; A⁺ = Aᵀ.

    Every pattern is ±1/√(HW), a Walsh function down times one across (Duarte et al., IEEE Signal Processing
    Magazine 25(2), 2008, for the camera). The transform is a fast one: HW·log₂(HW) additions, no matrix. The first
    ⌈γHW⌉ patterns of the ordering are used, so those of a lower ratio are among those of a higher one.

    Args:
        image_size: (H, W), powers of two.
        ratio: γ in (0, 1].
        ordering: ``sequency``, by sign changes per pixel, down and across together: coarse patterns first; or
            ``random``, after the all-ones pattern.
        seed: of the random ordering.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.

    Raises:
        InputError: sides that are not powers of two, a ratio outside (0, 1], or an unknown ordering.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        ratio: float,
        ordering: str = "sequency",
        seed: int = 0,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__(image_size, noise_std)
        if any(side & (side - 1) for side in self.image_size):
            raise InputError(f"image_size must be powers of two, as (64, 64); got {self.image_size}; crop or pad.")
        if ordering not in ORDERINGS:
            raise InputError(f"ordering must be one of {', '.join(ORDERINGS)}; got {ordering!r}.")
        self.ratio, self.ordering, self.seed = check_ratio(ratio), ordering, check_seed(seed)
        height, width = self.image_size
        if ordering == "sequency":
            down, across = sequencies(height) / height, sequencies(width) / width
            total = (down[:, None] + across).ravel()  # (HW,)
            order = np.argsort(total, kind="stable")  # of equals, those that change more across come first
        else:
            order = np.append(0, 1 + np.random.RandomState([self.seed, ORDER]).permutation(height * width - 1))
        self._tables["chosen"] = torch.from_numpy(order[: self.measurements].astype(np.int64))  # (M,)

    @property
    def measurements(self) -> int:
        """M = ⌈γHW⌉ patterns."""
        return rows(self.ratio, math.prod(self.image_size))

    @property
    def true_ratio(self) -> float:
        """M / (H·W)."""
        return self.measurements / math.prod(self.image_size)

    @property
    def orthonormal(self) -> bool:
        """Every pattern is a row of an orthonormal matrix."""
        return True

    def _measure(self, x: Tensor) -> Tensor:
        return walsh_hadamard(x.flatten(1))[:, self._table("chosen", x)]  # (B, M)

    def _adjoint(self, y: Tensor) -> Tensor:
        height, width = self.image_size
        spectrum = y.new_zeros(len(y), height * width).index_copy(1, self._table("chosen", y), y)  # (B, HW)
        return walsh_hadamard(spectrum).reshape(len(y), 1, height, width)


def walsh_hadamard(x: Tensor) -> Tensor:
    """The orthonormal Walsh–Hadamard transform of rows of 2ᵏ numbers, (B, n) → (B, n), natural order; self-inverse.

    One butterfly for each bit of the position. An image in reading order has the bits of its row before those of its
    column, so this is the transform down and across at once.
    """
    size, half = x.shape[1], 1
    while half < size:
        pairs = x.reshape(-1, size // (2 * half), 2, half)  # (B, blocks, 2, half)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        x = torch.stack([first + second, first - second], dim=2).reshape(-1, size)
        half *= 2
    return x / math.sqrt(size)


def sequencies(size: int) -> np.ndarray:
    """How often each row of the 2ᵏ Walsh–Hadamard matrix, in natural order, changes sign: (size,) of int64.

    The sequency's Gray code is the row's number with its bits reversed.
    """
    bits, number, reverse = size.bit_length() - 1, np.arange(size), np.zeros(size, dtype=np.int64)
    for bit in range(bits):
        reverse |= ((number >> bit) & 1) << (bits - 1 - bit)
    sequency, shift = reverse.copy(), 1
    while shift < max(1, bits):
        sequency ^= sequency >> shift  # undoes the Gray code, doubling the bits that are done
        shift *= 2
    return sequency

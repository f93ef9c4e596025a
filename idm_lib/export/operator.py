"""The sampling operator in fixed shapes: one graph for every ratio, and for measurements held back."""

import math

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import rows
from idm_lib.operators.random import orthonormal_matrix, pixel_permutation

MOST = 0.5  # the highest ratio that an exported graph takes


class MaskedBlocks:
    """:class:`~idm_lib.BlockCS` at γ = 50 %, with a mask that says which of its measurements were taken.

    A graph has fixed shapes, but M changes with the ratio. The rows are nested, so every operator of one seed is the
    largest one with some of its measurements struck out: a lower ratio strikes out columns of Φ, a measurement held
    back is struck out alone.

    The models estimate an error by the *mean* square of a residual. Over these measurements, zeros and all, the mean
    would be too small by K / (blocks·Q) for K measurements taken, so A multiplies by the root of the inverse, and
    Aᵀ divides by it. AᵀA is the true one, and so is the mean.

    Args:
        phi: the first Q columns of Φ, (N, Q).
        order, inverse: the permutation of the pixels and its inverse, (H·W,) integers.
        mask: 1 for a measurement taken and 0 for another, (1, blocks·Q).
        image_size: (H, W), a whole number of blocks.
    """

    def __init__(
        self, phi: Tensor, order: Tensor, inverse: Tensor, mask: Tensor, image_size: tuple[int, int]
    ) -> None:
        self.phi, self.order, self.inverse, self.mask = phi, order, inverse, mask
        self.image_size = image_size
        taken = mask.sum()
        self.true_ratio = taken / math.prod(image_size)  # γ, a scalar tensor
        self.scale = (mask.shape[1] / taken).sqrt()

    def A(self, x: Tensor) -> Tensor:
        """The measurements, scaled, and zeros: (1, 1, H, W) → (1, blocks·Q)."""
        blocks = x.flatten(1).index_select(1, self.order).reshape(-1, self.phi.shape[0])  # (blocks, N)
        return (blocks @ self.phi).reshape(1, -1) * (self.mask * self.scale)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Back to pixels: (1, blocks·Q) → (1, 1, H, W)."""
        blocks = (y * (self.mask / self.scale)).reshape(-1, self.phi.shape[1])  # (blocks, Q)
        pixels = (blocks @ self.phi.mT).reshape(1, -1)  # (1, H·W), shuffled
        return pixels.index_select(1, self.inverse).reshape(1, 1, *self.image_size)

    def A_dagger(self, y: Tensor) -> Tensor:
        """A⁺ = Aᵀ."""
        return self.A_adjoint(y)


def operator_arrays(image_size: tuple[int, int], block_size: int, seed: int) -> dict[str, Tensor]:
    """``phi``, ``order`` and ``inverse`` of :class:`MaskedBlocks`: float32, int32 and int32.

    Raises:
        InputError: the image is not a whole number of blocks.
    """
    block, pixels = block_size**2, math.prod(image_size)
    if pixels % block:
        raise InputError(
            f"image_size must hold a whole number of blocks of {block_size}² pixels; got {image_size}; "
            f"choose sides that are multiples of {block_size}."
        )
    order = pixel_permutation(pixels, seed)
    phi = np.ascontiguousarray(orthonormal_matrix(block, seed)[:, : rows(MOST, block)])
    return {
        "phi": torch.from_numpy(phi).float(),  # (N, Q)
        "order": torch.from_numpy(order).int(),  # (H·W,)
        "inverse": torch.from_numpy(np.argsort(order)).int(),
    }

"""Inpainting: some pixels are seen as they are, the others not at all."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import check_ratio
from idm_lib.operators.image_operator import ImageOperator
from idm_lib.operators.masks import around_a_box, between_strokes, check_mask, chosen_pattern, random_pixels
from idm_lib.operators.random import check_seed

PATTERNS = {"random": random_pixels, "box": around_a_box, "strokes": between_strokes}


class Inpainting(ImageOperator):
    """y = the pixels under a mask, in reading order. The rows are rows of the identity, so A⁺ = Aᵀ.

    Args:
        image_size: (H, W).
        ratio: γ in (0, 1], the share of pixels that is seen; not with ``mask``.
        pattern: ``random`` pixels, all but a ``box``, or all but the ``strokes`` of a script.
        seed: of the pattern.
        mask: (H, W), 1 where a pixel is seen and 0 elsewhere, in place of ratio, pattern and seed.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.

    Raises:
        InputError: neither ratio nor mask, or both; or values outside what is said above.
    """

    array_arguments: ClassVar[tuple[str, ...]] = ("mask",)

    def __init__(
        self,
        image_size: tuple[int, int],
        ratio: float | None = None,
        pattern: str = "random",
        seed: int = 0,
        mask: Any = None,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__(image_size, noise_std)
        draw = chosen_pattern(pattern, PATTERNS)
        if (ratio is None) == (mask is None):
            raise InputError("Inpainting needs a ratio, as 0.5 for half of the pixels, or a mask, and not both.")
        self.ratio = None if ratio is None else check_ratio(ratio)
        self.pattern, self.seed = pattern, check_seed(seed)
        self.mask = None if mask is None else check_mask(mask, self.image_size)
        seen = draw(self.image_size, self.ratio, self.seed) if self.mask is None else self.mask
        self._tables["seen"] = torch.from_numpy(np.flatnonzero(seen))  # (M,)

    @property
    def measurements(self) -> int:
        """M: how many pixels are seen."""
        return len(self._tables["seen"])

    @property
    def true_ratio(self) -> float:
        """M / (H·W)."""
        return self.measurements / (self.image_size[0] * self.image_size[1])

    @property
    def orthonormal(self) -> bool:
        """Every row is a row of the identity."""
        return True

    def _measure(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self._table("seen", x)]  # (B, M)

    def _adjoint(self, y: Tensor) -> Tensor:
        height, width = self.image_size
        image = y.new_zeros(len(y), height * width).index_copy(1, self._table("seen", y), y)  # (B, HW)
        return image.reshape(len(y), 1, height, width)

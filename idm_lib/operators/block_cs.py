"""The compressed-sensing operator: shuffle the pixels, cut into blocks, measure each with orthonormal rows."""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import (
    LinearOperator,
    check_image_size,
    check_ratio,
    check_tensor,
    compute_dtype,
    full_precision,
    rows,
)
from idm_lib.operators.random import check_seed, orthonormal_matrix, pixel_permutation


class BlockCS(LinearOperator):
    """Permuted block compressed sensing: y = (P x) Φ, block by block.

    P shuffles the image's own H·W pixels. The shuffled pixels are cut into blocks of N = block_size²,
    and each block is multiplied by the first q = ⌈γN⌉ columns of one random orthonormal N × N matrix. What is
    left over at the end, n′ < N pixels, is measured by ⌈γn′⌉ columns of an orthonormal n′ × n′ matrix of its
    own. So A Aᵀ = I and A⁺ = Aᵀ at every image size, and M / (H·W) is as close to γ as whole numbers allow.
    At sizes that are multiples of ``block_size`` this is the sampling operator of the IDM paper
    (arXiv 2403.17006).

    The rows are nested: the measurements at a lower ratio are among those at a higher one (:meth:`restrict`).

    Args:
        image_size: (H, W) in pixels, each at least 1.
        ratio: γ, asked-for measurements per pixel, in (0, 1].
        block_size: side of a block; N = block_size² pixels are measured together.
        seed: of the matrix Φ (and of the permutation, unless it has its own).
        permutation_seed: of the permutation. One number: one permutation for the whole batch. A sequence of B
            numbers: one permutation per image, and every batch must then have B images.
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.

    Shapes: x (B, 1, H, W) in [0, 1]; y (B, M), first the full blocks' q numbers each, then the last block's.
    float64 in gives float64 out; anything else is computed and returned in float32, under autocast too.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        ratio: float,
        block_size: int = 32,
        seed: int = 0,
        permutation_seed: int | Sequence[int] | None = None,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__(noise_std)
        self.image_size = check_image_size(image_size)
        self.ratio = check_ratio(ratio)
        if isinstance(block_size, bool) or not isinstance(block_size, int) or not 1 <= block_size <= 64:
            raise InputError(f"block_size must be a whole number from 1 to 64; got {block_size!r}.")
        self.block_size = block_size
        self.seed = check_seed(seed)
        self.permutation_seed = _check_permutation_seed(self.seed if permutation_seed is None else permutation_seed)

        pixels, block = math.prod(self.image_size), block_size**2
        self._blocks, self._rest = divmod(pixels, block)
        self._q = rows(self.ratio, block) if self._blocks else 0
        self._q_rest = rows(self.ratio, self._rest)
        self._full = {
            n: orthonormal_matrix(n, self.seed) for n in (block if self._blocks else 0, self._rest) if n
        }  # float64, all columns: any ratio is a cut of them
        # Shared with relatives of this ratio, so never emptied, only replaced.
        self._cuts: dict[tuple[int, torch.dtype], Tensor] = {}
        self._draw_permutation()

    # -- sizes ---------------------------------------------------------------------------------------------

    @property
    def measurements(self) -> int:
        """M: how many numbers the operator takes of one image."""
        return self._blocks * self._q + self._q_rest

    @property
    def true_ratio(self) -> float:
        """M / (H·W): the ratio in fact, rounded up from γ to whole rows per block."""
        return self.measurements / math.prod(self.image_size)

    @property
    def orthonormal(self) -> bool:
        """The columns of Φ are orthonormal, and no pixel is in two blocks."""
        return True

    # -- the map and its adjoint ---------------------------------------------------------------------------

    def A(self, x: Tensor) -> Tensor:
        """y = A x: (B, 1, H, W) → (B, M).

        Raises:
            InputError: wrong shape, device or number of images; integer, NaN or infinite pixels.
        """
        check_tensor(x, "x", self.device)
        if x.dim() != 4 or tuple(x.shape[1:]) != (1, *self.image_size):
            raise InputError(
                f"x must have shape (B, 1, {self.image_size[0]}, {self.image_size[1]}); got {tuple(x.shape)}; "
                "reshape it, or build the operator for this image size."
            )
        self._check_batch(x, "x")
        with full_precision(x):
            pixels = self._gather(x.flatten(1).to(compute_dtype(x)), self._order)  # (B, HW), shuffled
            cut = self._blocks * self.block_size**2
            parts = []
            if self._blocks:
                blocks = pixels[:, :cut].reshape(len(x), self._blocks, self.block_size**2)  # (B, blocks, N)
                parts.append((blocks @ self._phi(self.block_size**2, self._q, x)).flatten(1))  # (B, blocks·q)
            if self._rest:
                parts.append(pixels[:, cut:] @ self._phi(self._rest, self._q_rest, x))  # (B, q′)
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # (B, M)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (B, M) → (B, 1, H, W).

        Raises:
            InputError: as :meth:`A`.
        """
        self._check_y(y)
        with full_precision(y):
            batch, cut = y.shape[0], self._blocks * self._q
            values = y.to(compute_dtype(y))
            parts = []
            if self._blocks:
                blocks = values[:, :cut].reshape(batch, self._blocks, self._q)  # (B, blocks, q)
                parts.append((blocks @ self._phi(self.block_size**2, self._q, y).mT).flatten(1))
            if self._rest:
                parts.append(values[:, cut:] @ self._phi(self._rest, self._q_rest, y).mT)
            pixels = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # (B, HW), shuffled
            return self._gather(pixels, self._inverse_order).reshape(batch, 1, *self.image_size)

    def A_dagger(self, y: Tensor) -> Tensor:
        """A⁺ y = Aᵀ y, since the rows are orthonormal: (B, M) → (B, 1, H, W)."""
        return self.A_adjoint(y)

    # -- relatives of this operator ------------------------------------------------------------------------

    def replace(self, ratio: float | None = None, permutation_seed: int | Sequence[int] | None = None) -> "BlockCS":
        """The operator with the same Φ but another ratio or permutation; cheap: Φ is shared, and so is its cut."""
        other = object.__new__(BlockCS)
        other.__dict__.update(self.__dict__, ratio=self.ratio if ratio is None else check_ratio(ratio))
        other._q = rows(other.ratio, self.block_size**2) if self._blocks else 0
        other._q_rest = rows(other.ratio, self._rest)
        if (other._q, other._q_rest) != (self._q, self._q_rest):
            other._cuts = {}
        if permutation_seed is not None:
            other.permutation_seed = _check_permutation_seed(permutation_seed)
            other._draw_permutation()
        return other

    def restrict(self, y: Tensor, ratio: float) -> tuple["BlockCS", Tensor]:
        """The operator at a lower ratio and the part of ``y`` that it would have measured.

        Args:
            y: (B, M), measured by this operator.
            ratio: in (0, self.ratio].

        Raises:
            InputError: a higher ratio, or a ``y`` that :meth:`A_adjoint` would not take.
        """
        if check_ratio(ratio) > self.ratio:
            raise InputError(f"restrict() can only lower the ratio from {self.ratio:g}; got {ratio:g}.")
        self._check_y(y)
        lower, cut = self.replace(ratio=ratio), self._blocks * self._q
        blocks = y[:, :cut].reshape(y.shape[0], self._blocks, self._q)[:, :, : lower._q]
        return lower, torch.cat([blocks.flatten(1), y[:, cut : cut + lower._q_rest]], dim=1)

    def config(self) -> dict[str, Any]:
        """The numbers that rebuild this operator: ``BlockCS.from_config(op.config())``."""
        return {
            "operator": "BlockCS",
            "image_size": list(self.image_size),
            "ratio": self.ratio,
            "block_size": self.block_size,
            "seed": self.seed,
            "permutation_seed": self.permutation_seed,
            "noise_std": self.noise_std,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild an operator from what :meth:`config` gave (or its JSON)."""
        fields = dict(config)
        if fields.pop("operator", "BlockCS") != "BlockCS":
            raise InputError(f"this is the configuration of a {config['operator']}; expected a BlockCS.")
        unknown = set(fields) - {"image_size", "ratio", "block_size", "seed", "permutation_seed", "noise_std"}
        if unknown or not {"image_size", "ratio"} <= set(fields):
            raise InputError(
                f"a BlockCS configuration needs image_size and ratio, and nothing unknown; got {sorted(config)}."
            )
        return cls(**fields)

    def to(self, device: torch.device | str) -> Self:
        """Move the permutation and Φ to ``device``, in place, and return the operator."""
        before = self._device
        super().to(device)
        if self._device != before:
            self._order, self._inverse_order = self._order.to(device), self._inverse_order.to(device)
            self._cuts = {}
        return self

    def __repr__(self) -> str:
        height, width = self.image_size
        return (
            f"BlockCS(image_size=({height}, {width}), ratio={self.ratio:g}, block_size={self.block_size}, "
            f"seed={self.seed})  # {self.measurements} of {height * width} numbers: {self.true_ratio:.2%}"
        )

    # -- inside --------------------------------------------------------------------------------------------

    def _draw_permutation(self) -> None:
        pixels = math.prod(self.image_size)
        if isinstance(self.permutation_seed, int):
            order = pixel_permutation(pixels, self.permutation_seed)  # (HW,)
        else:
            order = np.stack([pixel_permutation(pixels, s) for s in self.permutation_seed])  # (B, HW)
        self._order = torch.from_numpy(order).to(self._device)
        self._inverse_order = torch.from_numpy(np.argsort(order, axis=-1)).to(self._device)

    def _gather(self, pixels: Tensor, order: Tensor) -> Tensor:
        """Reorder the pixels, (B, HW) → (B, HW), by one order for all or one for each."""
        if order.dim() > 1:
            return pixels.gather(1, order)
        if pixels.is_meta:  # the one place where the order may be on another device
            return pixels[:, order]
        return pixels.index_select(1, order)  # in half the time; gather would keep the pixels for its backward pass

    def _phi(self, size: int, columns: int, like: Tensor) -> Tensor:
        """The first ``columns`` columns of the block's orthonormal matrix, in the precision to compute in."""
        if like.device.type == "meta":
            return torch.empty(size, columns, dtype=compute_dtype(like), device="meta")
        key = (size, compute_dtype(like))
        if key not in self._cuts:
            cut = torch.from_numpy(np.ascontiguousarray(self._full[size][:, :columns]))
            self._cuts[key] = cut.to(self._device, key[1])
        return self._cuts[key]  # (size, columns)

    def _check_y(self, y: Tensor) -> None:
        check_tensor(y, "y", self.device)
        if y.dim() != 2 or y.shape[1] != self.measurements:
            raise InputError(
                f"y must have shape (B, {self.measurements}); got {tuple(y.shape)}; "
                "use the operator that measured it (same image size and ratio)."
            )
        self._check_batch(y, "y")

    def _check_batch(self, tensor: Tensor, name: str) -> None:
        if not isinstance(self.permutation_seed, int) and tensor.shape[0] != len(self.permutation_seed):
            raise InputError(
                f"the operator has one permutation for each of {len(self.permutation_seed)} images, "
                f"but {name} holds {tensor.shape[0]}; give as many, or one permutation_seed for all."
            )


def _check_permutation_seed(seed: int | Sequence[int]) -> int | list[int]:
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        if not seed:
            raise InputError("permutation_seed must be a number, or one number per image; got an empty sequence.")
        return [check_seed(s, "permutation_seed") for s in seed]
    return check_seed(seed, "permutation_seed")

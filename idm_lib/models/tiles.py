"""A plane covered by overlapping tiles, and smooth windows that blend what was made of each into one plane again."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Tiling:
    """A grid of equal tiles over a plane.

    Args:
        tops, lefts: where the grid's rows and columns begin, rising from 0; the last tile ends where the plane does.
        tile: height and width of every tile.
        overlap: over how many samples one tile gives way to the next.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    tile: tuple[int, int]
    overlap: int

    @classmethod
    def over(cls, size: tuple[int, int], tile: int, overlap: int) -> Self:
        """Cover a plane of ``size``; neighbours share ``overlap`` samples, the last two of a row perhaps more."""
        height, width = (min(side, tile) for side in size)
        tops, lefts = (
            tuple(dict.fromkeys(min(at, side - own) for at in range(0, max(side - overlap, 1), tile - overlap)))
            for side, own in zip(size, (height, width), strict=True)
        )
        return cls(tops, lefts, (height, width), overlap)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the plane."""
        return self.tops[-1] + self.tile[0], self.lefts[-1] + self.tile[1]

    def scaled(self, factor: int) -> Self:
        """The same grid on a plane ``factor`` times as fine."""
        return type(self)(
            tuple(factor * at for at in self.tops),
            tuple(factor * at for at in self.lefts),
            (factor * self.tile[0], factor * self.tile[1]),
            factor * self.overlap,
        )

    def places(self) -> Iterator[tuple[slice, slice]]:
        """The rows and columns of each tile, row by row."""
        for top in self.tops:
            for left in self.lefts:
                yield slice(top, top + self.tile[0]), slice(left, left + self.tile[1])

    def windows(self, like: Tensor) -> list[Tensor]:
        """A weight for each sample of each tile, (h, w) each; at every point of the plane they sum to 1."""
        rows = _windows(self.tops, self.tile[0], self.overlap, like)
        columns = _windows(self.lefts, self.tile[1], self.overlap, like)
        return [row[:, None] * column for row in rows for column in columns]

    def cut(self, plane: Tensor) -> Tensor:
        """All tiles as one batch, one tile of every image after another: (B, C, H, W) → (tiles·B, C, h, w)."""
        return torch.cat([plane[..., rows, columns] for rows, columns in self.places()])

    def blend(self, tiles: Tensor) -> Tensor:
        """The weighted sum of what :meth:`cut` cut: (tiles·B, C, h, w) → (B, C, H, W)."""
        parts = tiles.chunk(len(self))
        plane = parts[0].new_zeros(*parts[0].shape[:2], *self.size)
        for (rows, columns), window, part in zip(self.places(), self.windows(tiles), parts, strict=True):
            plane[..., rows, columns] += window * part
        return plane


def _windows(starts: tuple[int, ...], length: int, overlap: int, like: Tensor) -> Tensor:
    """Weights along one axis, (tiles, length): sin² ramps over the overlap, made to sum to 1."""
    places = torch.arange(length, dtype=torch.float64)
    inside = torch.minimum(places, length - 1 - places) + 0.5  # distance from the nearer end
    ramp = torch.sin(math.pi / 2 * (inside / max(overlap, 0.5)).clamp(max=1)) ** 2  # (length,)
    total = torch.zeros(starts[-1] + length, dtype=torch.float64)
    for at in starts:
        total[at : at + length] += ramp
    return torch.stack([ramp / total[at : at + length] for at in starts]).to(like)


class TiledOperator:
    """An operator told tiles instead of whole images: it puts them together, measures, and cuts up what comes back.

    So the injectors of a network that runs on tiles meet the measurements of the whole image, which no tile alone
    has.

    Args:
        op: the operator on whole images, (B, 1, H, W).
        tiling: over the image padded to the network's multiple.
        image_size: (H, W), not padded.
    """

    def __init__(self, op: Any, tiling: Tiling, image_size: tuple[int, int]) -> None:
        self.op, self.tiling, self.image_size = op, tiling, image_size

    def A(self, tiles: Tensor) -> Tensor:
        """(tiles·B, 1, h, w) → (B, M)."""
        height, width = self.image_size
        return self.op.A(self.tiling.blend(tiles)[..., :height, :width])

    def A_adjoint(self, y: Tensor) -> Tensor:
        """(B, M) → (tiles·B, 1, h, w), zero outside the image."""
        return self.cut(self.op.A_adjoint(y))

    def cut(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) → (tiles·B, 1, h, w), zero outside the image."""
        (full_height, full_width), (height, width) = self.tiling.size, self.image_size
        return self.tiling.cut(F.pad(image, (0, full_width - width, 0, full_height - height)))

"""Measurement injectors: let the measurements speak inside the U-Net's features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Injector(nn.Module):
    """h + i2f([f2i(h), AᵀA f2i(h), Aᵀy]): features to an image, its measured part beside Aᵀy, back to features.

    f2i is a pixel shuffle by r and a 1 × 1 convolution to one channel; i2f a 1 × 1 convolution from three channels
    and a pixel unshuffle by r (paper, section "Injectors"), so that h at scale 1/r meets the measurements at full
    size. i2f starts at zero: a new injector changes nothing.

    Args:
        channels: C of h, a multiple of r².
        scale: r, how much smaller h is than the image.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.f2i = nn.Conv2d(channels // scale**2, 1, 1)
        self.i2f = nn.Conv2d(3, channels // scale**2, 1)
        nn.init.zeros_(self.i2f.weight)
        nn.init.zeros_(self.i2f.bias)

    def image(self, h: Tensor) -> Tensor:
        """f2i(h), the image that the operator is shown: (B, C, H'/r, W'/r) → (B, 1, H', W')."""
        return _shuffled(_mixed(h, self.f2i), self.scale)

    def forward(self, h: Tensor, op: Any, back_projection: Tensor) -> Tensor:
        """Inject.

        Args:
            h: features, (B, C, H'/r, W'/r), of an image padded to H' × W'.
            op: the operator, with ``A`` and ``A_adjoint``.
            back_projection: Aᵀy, (B, 1, H, W), not padded.

        Returns:
            (B, C, H'/r, W'/r).
        """
        height, width = back_projection.shape[-2:]
        image = self.image(h)  # (B, 1, H', W')
        seen = op.A_adjoint(op.A(image[..., :height, :width]))  # (B, 1, H, W); A knows nothing of padding
        padding = (0, image.shape[-1] - width, 0, image.shape[-2] - height)
        physics = F.pad(torch.cat([seen, back_projection.to(seen.dtype)], dim=1), padding)  # (B, 2, H', W')
        images = torch.cat([image, physics.to(image.dtype)], dim=1)  # (B, 3, H', W')
        return h + _mixed(_unshuffled(images, self.scale), self.i2f)  # (B, C, H'/r, W'/r)


def _mixed(shuffled: Tensor, mix: nn.Conv2d) -> Tensor:
    """A 1 × 1 convolution of full-size channels that stay unshuffled, r² by r², as a matrix product.

    A pixel shuffle only names positions, and a 1 × 1 convolution treats all positions alike: they commute. So the
    many channels of the features are never shuffled, only the one or three of the images.

    Args:
        shuffled: (B, C_in·r², H, W).
        mix: from C_in to C_out channels.

    Returns:
        (B, C_out·r², H, W).
    """
    batch, (outs, ins) = shuffled.shape[0], mix.weight.shape[:2]
    weight = mix.weight.reshape(1, outs, ins).expand(batch, -1, -1)  # (B, C_out, C_in)
    rows = shuffled.reshape(batch, ins, -1)  # (B, C_in, r²·H·W)
    out = torch.baddbmm(mix.bias[:, None], weight, rows)  # (B, C_out, r²·H·W); matmul would transpose the rows
    return out.reshape(batch, -1, *shuffled.shape[-2:])


def _shuffled(features: Tensor, scale: int) -> Tensor:
    """:func:`torch.nn.functional.pixel_shuffle` as one copy, on a CPU in a third of its time."""
    batch, channels, height, width = features.shape
    split = features.reshape(batch, channels // scale**2, scale, scale, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * scale, width * scale)


def _unshuffled(images: Tensor, scale: int) -> Tensor:
    """:func:`torch.nn.functional.pixel_unshuffle` likewise."""
    batch, channels, height, width = images.shape
    split = images.reshape(batch, channels, height // scale, scale, width // scale, scale)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // scale, width // scale)

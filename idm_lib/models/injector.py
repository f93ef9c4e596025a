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

    def forward(self, h: Tensor, op: Any, back_projection: Tensor) -> Tensor:
        """Inject.

        Args:
            h: features, (B, C, H'/r, W'/r), of an image padded to H' × W'.
            op: the operator, with ``A`` and ``A_adjoint``.
            back_projection: Aᵀy, (B, 1, H, W), not padded.

        Returns:
            (B, C, H'/r, W'/r).
        """
        image = self.f2i(F.pixel_shuffle(h, self.scale))  # (B, 1, H', W')
        height, width = back_projection.shape[-2:]
        seen = op.A_adjoint(op.A(image[..., :height, :width]))  # (B, 1, H, W); A knows nothing of padding
        padding = (0, image.shape[-1] - width, 0, image.shape[-2] - height)
        physics = F.pad(torch.cat([seen, back_projection.to(seen.dtype)], dim=1), padding)  # (B, 2, H', W')
        features = self.i2f(torch.cat([image, physics.to(image.dtype)], dim=1))  # (B, C/r², H', W')
        return h + F.pixel_unshuffle(features, self.scale)

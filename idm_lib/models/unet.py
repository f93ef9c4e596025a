"""The reversible U-Net: diffusers' own blocks, composed, with every shape-preserving block wired.

Nothing of diffusers is patched: its blocks are built without what the paper removes and called as they are,
under Stable Diffusion's key names, so that a pretrained state dict loads by dropping keys (paper, section
"Pruned U-Net"). Skips, the noise level and the measurements are arguments, never buffers.
"""

import torch
from torch import Tensor, nn

from idm_lib.models.blocks import DownBlock, Surroundings, UpBlock
from idm_lib.models.config import UNetConfig
from idm_lib.models.noise_embedding import NoiseEmbedding

__all__ = ["ReversibleUNet", "UNetConfig", "on_image"]


class ReversibleUNet(nn.Module):
    """The U-Net of the reversible sampler and of its prior: encoder, repeated bottleneck, decoder.

    Args:
        config: its numbers.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.block_channels
        levels = range(len(widths))
        self.noise_embedding = NoiseEmbedding(config.noise_channels) if config.noise_channels else None
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList([DownBlock(config, level) for level in levels])
        self.up_blocks = nn.ModuleList([UpBlock(config, level) for level in reversed(levels)])
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)

    @property
    def multiple(self) -> int:
        """The input's height and width must be multiples of this."""
        return 2 ** (len(self.config.block_channels) - 1)

    @property
    def dtype(self) -> torch.dtype:
        """What the input must be in: the dtype of the weights."""
        return self.conv_in.weight.dtype

    def forward(self, x: Tensor, sigma: Tensor | None = None, around: Surroundings | None = None) -> Tensor:
        """Evaluate.

        Args:
            x: (B, C, H, W), H and W multiples of :attr:`multiple`.
            sigma: the noise level, (B,), if the network is told it.
            around: step, operator and Aᵀy for the injectors, and what to store; its embedding is set here.

        Returns:
            (B, C, H, W).
        """
        embedding = None if self.noise_embedding is None else self.noise_embedding(sigma)  # (B, D)
        told = around or Surroundings()
        told = Surroundings(embedding, told.step, told.op, told.back_projection, told.memory)
        h = self.conv_in(x)
        skips = [h]
        for block in self.down_blocks:
            h, more = block(h, told)
            skips += more
        h = h.repeat(1, self.config.bottleneck_repeat, 1, 1)
        for block in self.up_blocks:
            used = [skips.pop() for _ in block.resnets]
            h = block(h, used, told)
        return self.conv_out(nn.functional.silu(self.conv_norm_out(h)))


def on_image(
    unet: ReversibleUNet, image: Tensor, sigma: Tensor | None = None, around: Surroundings | None = None
) -> Tensor:
    """Run the U-Net on grey images of any size: pad, 2 × 2 pixels to 4 channels, U-Net, back, crop.

    Only here is anything padded; the measurements never are. The network runs in its weights' dtype whatever the
    image's is, and the result is in the image's. image (B, 1, H, W) → (B, 1, H, W).
    """
    height, width, dtype = *image.shape[-2:], image.dtype
    image = image.to(unet.dtype)
    multiple = 2 * unet.multiple
    bottom, right = -height % multiple, -width % multiple
    if bottom or right:
        image = nn.functional.pad(image, (0, right, 0, bottom), mode="replicate")
    out = nn.functional.pixel_shuffle(unet(nn.functional.pixel_unshuffle(image, 2), sigma, around), 2)
    return out[..., :height, :width].to(dtype)

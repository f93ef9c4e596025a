"""The reversible U-Net: diffusers' own blocks, composed, with every shape-preserving block wired.

Nothing of diffusers is patched: its blocks are built without what the paper removes and called as they are,
under Stable Diffusion's key names, so that a pretrained state dict loads by dropping keys (paper, section 1
"Pruned U-Net"). Skips and the noise embedding are arguments, never buffers.
"""

from dataclasses import dataclass

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.models.noise_embedding import NoiseEmbedding
from idm_lib.reversible import WiredCoupling


@dataclass(frozen=True)
class UNetConfig:
    """The numbers that make a U-Net.

    Args:
        in_channels: of the input; an image's four pixel-unshuffled channels.
        block_channels: channels of each level, fine to coarse.
        layers_per_block: resnets of a down block; an up block has one more.
        attention: whether the level has attention after each resnet.
        attention_heads: heads of every attention.
        norm_groups: groups of every group norm.
        bottleneck_repeat: how often the bottleneck's channels are repeated before the first up block (2 in the
            pruned Stable Diffusion U-Net, whose first up block expects the removed mid block's 1280).
        noise_channels: width of the noise embedding; 0 for a network that is not told the noise level.
        wired: whether shape-preserving blocks are wired (reversible) or run as plain residual blocks.
        v: first value of every wiring scalar.
    """

    in_channels: int = 4
    block_channels: tuple[int, ...] = (320, 640)
    layers_per_block: int = 2
    attention: tuple[bool, ...] = (True, True)
    attention_heads: int = 8
    norm_groups: int = 32
    bottleneck_repeat: int = 2
    noise_channels: int = 0
    wired: bool = True
    v: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_channels", tuple(self.block_channels))
        object.__setattr__(self, "attention", tuple(self.attention))
        if len(self.attention) != len(self.block_channels):
            raise InputError(
                f"attention needs one entry for each of {len(self.block_channels)} levels; got {self.attention}."
            )
        for channels in self.block_channels:
            if channels % self.norm_groups:
                raise InputError(
                    f"every level's channels must divide into {self.norm_groups} groups; got {channels}."
                )


class WiredRun(nn.Module):
    """A run of shape-preserving bodies as one reversible chain: double the stream, run, merge.

    The stream h becomes the pair [h, s·h]; body i maps it by ``y₁ = (1−vᵢ)·Fᵢ(x₁) + vᵢ·x₂, y₂ = x₁``; the pair
    becomes y₁ + m·y₂ (paper, section 1 "Wiring"). The run owns s, m and the vᵢ; the bodies belong to their block.

    Args:
        links: how many bodies the run has.
        v: first value of each vᵢ.
    """

    def __init__(self, links: int, v: float) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(1))
        self.m = nn.Parameter(torch.zeros(1))
        self.v = nn.ParameterList([nn.Parameter(torch.full((1,), v)) for _ in range(links)])

    def forward(self, h: Tensor, bodies: list[nn.Module], extras: list[tuple[Tensor | None, ...]]) -> Tensor:
        """Run h, (B, C, H, W), through the bodies, each called as ``body(x1, *extras[i])``."""
        x1, x2 = h, self.s * h
        for body, v, side in zip(bodies, self.v, extras, strict=True):
            x1, x2 = WiredCoupling(body, v)(x1, x2, *side)
        return x1 + self.m * x2


class PlainRun(nn.Module):
    """The same bodies one after another, not reversible: what the wiring is compared with."""

    def forward(self, h: Tensor, bodies: list[nn.Module], extras: list[tuple[Tensor | None, ...]]) -> Tensor:
        """Run h, (B, C, H, W), through the bodies, each called as ``body(h, *extras[i])``."""
        for body, side in zip(bodies, extras, strict=True):
            h = body(h, *side)
        return h


class _WithSkip(nn.Module):
    """A resnet of an up block as a body of its stream: the skip comes in from the side."""

    def __init__(self, resnet: ResnetBlock2D) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, h: Tensor, skip: Tensor, embedding: Tensor | None) -> Tensor:
        return self.resnet(torch.cat([h, skip], dim=1), embedding)  # (B, C + C_skip, H, W) → (B, C, H, W)


class _Attention(nn.Module):
    """Attention as a body: diffusers wraps its output, a body returns a tensor."""

    def __init__(self, attention: Transformer2DModel) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, h: Tensor) -> Tensor:
        return self.attention(h, return_dict=False)[0]


def _run(config: UNetConfig, links: int) -> nn.Module:
    return WiredRun(links, config.v) if config.wired and links else PlainRun()


def _resnet(config: UNetConfig, in_channels: int, out_channels: int) -> ResnetBlock2D:
    conditioned = config.noise_channels > 0
    return ResnetBlock2D(
        in_channels=in_channels,
        out_channels=out_channels,
        temb_channels=config.noise_channels if conditioned else None,
        time_embedding_norm="scale_shift" if conditioned else "default",
        groups=config.norm_groups,
        eps=1e-5,
    )


def _attention(config: UNetConfig, channels: int) -> Transformer2DModel:
    return Transformer2DModel(
        num_attention_heads=config.attention_heads,
        attention_head_dim=channels // config.attention_heads,
        in_channels=channels,
        num_layers=1,
        cross_attention_dim=None,
        norm_num_groups=config.norm_groups,
    )


class DownBlock(nn.Module):
    """One level of the encoder: for each layer a run (resnet if its channels match, attention), then halve.

    Each layer's merged output is also a skip, and so is the downsampler's.
    """

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        channels = config.block_channels[level]
        before = config.block_channels[max(level - 1, 0)]
        widths = [before] + [channels] * (config.layers_per_block - 1)
        self.resnets = nn.ModuleList([_resnet(config, width, channels) for width in widths])
        self.attentions = nn.ModuleList(
            [_attention(config, channels) for _ in widths] if config.attention[level] else []
        )
        self._same_width = [width == channels for width in widths]
        self.runs = nn.ModuleList([_run(config, same + config.attention[level]) for same in self._same_width])
        last = level == len(config.block_channels) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(channels, use_conv=True, name="op")])

    def forward(self, h: Tensor, embedding: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """h (B, C_in, H, W) → (B, C, H/2, W/2) and the block's skips, fine first."""
        skips = []
        for i, (resnet, run) in enumerate(zip(self.resnets, self.runs, strict=True)):
            bodies: list[nn.Module] = []
            extras: list[tuple[Tensor | None, ...]] = []
            if self._same_width[i]:
                bodies, extras = [resnet], [(embedding,)]
            else:
                h = resnet(h, embedding)  # changes the width, so it cannot be wired
            if self.attentions:
                bodies, extras = [*bodies, _Attention(self.attentions[i])], [*extras, ()]
            h = run(h, bodies, extras)
            skips.append(h)
        for downsampler in self.downsamplers:
            h = downsampler(h)
            skips.append(h)
        return h, skips


class UpBlock(nn.Module):
    """One level of the decoder: the first resnet takes the skip plainly, all the rest is one run, then double."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        widths = config.block_channels
        channels, last = widths[level], level == len(widths) - 1
        incoming = channels * config.bottleneck_repeat if last else widths[level + 1]
        skips = [channels] * config.layers_per_block + [widths[max(level - 1, 0)]]
        inputs = [incoming + skips[0]] + [channels + skip for skip in skips[1:]]
        self.resnets = nn.ModuleList([_resnet(config, width, channels) for width in inputs])
        self.attentions = nn.ModuleList(
            [_attention(config, channels) for _ in inputs] if config.attention[level] else []
        )
        self.run = _run(config, len(inputs) - 1 + len(self.attentions))
        self.upsamplers = nn.ModuleList([Upsample2D(channels, use_conv=True)] if level > 0 else [])

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor | None) -> Tensor:
        """h (B, C_in, H, W) and as many skips as resnets, in the order of use → (B, C, 2H, 2W)."""
        h = self.resnets[0](torch.cat([h, skips[0]], dim=1), embedding)
        bodies: list[nn.Module] = []
        extras: list[tuple[Tensor | None, ...]] = []
        for i, resnet in enumerate(self.resnets):
            if i:
                bodies, extras = [*bodies, _WithSkip(resnet)], [*extras, (skips[i], embedding)]
            if self.attentions:
                bodies, extras = [*bodies, _Attention(self.attentions[i])], [*extras, ()]
        h = self.run(h, bodies, extras)
        for upsampler in self.upsamplers:
            h = upsampler(h)
        return h


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

    def forward(self, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), and the noise level (B,) if the network is told it → (B, C, H, W)."""
        embedding = None if self.noise_embedding is None else self.noise_embedding(sigma)  # (B, D)
        h = self.conv_in(x)
        skips = [h]
        for block in self.down_blocks:
            h, more = block(h, embedding)
            skips += more
        h = h.repeat(1, self.config.bottleneck_repeat, 1, 1)
        for block in self.up_blocks:
            used = [skips.pop() for _ in block.resnets]
            h = block(h, used, embedding)
        return self.conv_out(nn.functional.silu(self.conv_norm_out(h)))


def on_image(unet: ReversibleUNet, image: Tensor, sigma: Tensor | None = None) -> Tensor:
    """Run the U-Net on grey images of any size: pad, 2×2 pixels to 4 channels, U-Net, back, crop.

    Only here is anything padded; the measurements never are. image (B, 1, H, W) → (B, 1, H, W).
    """
    height, width = image.shape[-2:]
    multiple = 2 * unet.multiple
    bottom, right = -height % multiple, -width % multiple
    if bottom or right:
        image = nn.functional.pad(image, (0, right, 0, bottom), mode="replicate")
    out = nn.functional.pixel_shuffle(unet(nn.functional.pixel_unshuffle(image, 2), sigma), 2)
    return out[..., :height, :width]

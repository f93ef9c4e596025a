"""The U-Net's blocks: diffusers' own parts, composed; what keeps its shape is a run, skips are arguments."""

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from idm_lib.models.attention import AttentionBody, make_attention
from idm_lib.models.config import UNetConfig
from idm_lib.models.injector import Injector
from idm_lib.models.runs import BlockMemory, PlainRun, WiredRun


@dataclass(frozen=True)
class Surroundings:
    """What every block of one evaluation is told.

    Args:
        embedding: of the noise level, (B, D), or None.
        step: which set of injector weights to use, 0 … T − 1.
        op: the operator, for the injectors.
        back_projection: Aᵀy, (B, 1, H, W), for the injectors.
        memory: what the backward pass stores.
    """

    embedding: Tensor | None = None
    step: int = 0
    op: Any = None
    back_projection: Tensor | None = None
    memory: BlockMemory = field(default_factory=BlockMemory)


class _WithSkip(nn.Module):
    """A resnet of an up block as a body of its stream: the skip comes in from the side."""

    def __init__(self, resnet: ResnetBlock2D) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, h: Tensor, skip: Tensor, embedding: Tensor | None) -> Tensor:
        return self.resnet(torch.cat([h, skip], dim=1), embedding)  # (B, C + C_skip, H, W) → (B, C, H, W)


class _Injected(nn.Module):
    """A body with an injector at its end, as one body: F(h) followed by the measurements."""

    def __init__(self, body: nn.Module, injector: Injector) -> None:
        super().__init__()
        self.body, self.injector = body, injector

    def forward(self, h: Tensor, op: Any, back_projection: Tensor, *extras: Any) -> Tensor:
        return self.injector(self.body(h, *extras), op, back_projection)  # (B, C, H, W)


def make_resnet(config: UNetConfig, in_channels: int, out_channels: int) -> ResnetBlock2D:
    """A resnet that knows no time step; with a noise embedding, it scales and shifts after the second norm."""
    conditioned = config.noise_channels > 0
    return ResnetBlock2D(
        in_channels=in_channels,
        out_channels=out_channels,
        temb_channels=config.noise_channels if conditioned else None,
        time_embedding_norm="scale_shift" if conditioned else "default",
        groups=config.norm_groups,
        eps=1e-5,
    )


class _Block(nn.Module):
    """What down and up blocks share: attentions and injectors after each resnet, and the list of a run's bodies."""

    def __init__(self, config: UNetConfig, level: int, layers: int) -> None:
        super().__init__()
        channels, scale = config.block_channels[level], 2 ** (level + 1)
        self.attentions = nn.ModuleList(
            [make_attention(config, channels) for _ in range(layers)] if config.attention[level] else []
        )
        per_layer = (2 if config.attention[level] else 1) if config.injectors[level] else 0
        self.per_layer = per_layer  # before and after each attention, or once where there is none
        self.joined = config.joined_injectors
        self.injectors = nn.ModuleList(
            [
                nn.ModuleList([Injector(channels, scale) for _ in range(config.steps)])
                for _ in range(layers * per_layer)
            ]
        )

    def _layer(
        self, layer: int, resnet: nn.Module, side: tuple[Any, ...], around: Surroundings
    ) -> tuple[list[nn.Module], list[tuple[Any, ...]]]:
        """The bodies of one layer, its resnet first, with their side inputs."""
        first = layer * self.per_layer
        waiting = [each[around.step] for each in self.injectors[first : first + self.per_layer]]
        physics = (around.op, around.back_projection)
        bodies: list[nn.Module] = []
        extras: list[tuple[Any, ...]] = []
        parts: list[tuple[nn.Module, tuple[Any, ...]]] = [(resnet, side)]
        if self.attentions:
            parts.append((AttentionBody(self.attentions[layer], around.memory.slices), ()))
        for part, its in parts:
            injector = waiting.pop(0) if waiting else None
            if injector is not None and self.joined:
                bodies.append(_Injected(part, injector))
                extras.append((*physics, *its))
                continue
            bodies.append(part)
            extras.append(its)
            if injector is not None:
                bodies.append(injector)
                extras.append(physics)
        return bodies, extras

    def _links_after(self, config: UNetConfig, level: int) -> int:
        return (0 if self.joined else self.per_layer) + config.attention[level]


class DownBlock(_Block):
    """One level of the encoder: for each layer a run (resnet if its channels match, injectors, attention); halve.

    Each layer's merged output is also a skip, and so is the downsampler's.
    """

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__(config, level, config.layers_per_block)
        channels = config.block_channels[level]
        before = config.block_channels[max(level - 1, 0)]
        widths = [before] + [channels] * (config.layers_per_block - 1)
        self.resnets = nn.ModuleList([make_resnet(config, width, channels) for width in widths])
        self.same_width = [width == channels for width in widths]
        self.runs = nn.ModuleList()
        for i, same in enumerate(self.same_width):
            links = same + self._links_after(config, level)
            goes_on = config.one_pair and same and i > 0 and isinstance(self.runs[-1], WiredRun)
            name = f"down_blocks.{level}.runs.{i}"
            wired = config.wired and links > 0
            self.runs.append(WiredRun(links, config.v, config.v_range, not goes_on, name) if wired else PlainRun())
        last = level == len(config.block_channels) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(channels, use_conv=True, name="op")])

    def forward(self, h: Tensor, around: Surroundings) -> tuple[Tensor, list[Tensor]]:
        """h (B, C_in, H, W) → (B, C, H/2, W/2) and the block's skips, fine first."""
        skips, pair = [], None
        for i, (resnet, run) in enumerate(zip(self.resnets, self.runs, strict=True)):
            bodies, extras = self._layer(i, resnet, (around.embedding,), around)
            if not self.same_width[i]:
                h = around.memory.call(bodies.pop(0), h, *extras.pop(0))  # changes the width, so it cannot be wired
            goes_on = isinstance(run, WiredRun) and run.s is None
            h, pair = run(pair if goes_on else h, bodies, extras, around.memory)
            skips.append(h)
        for downsampler in self.downsamplers:
            h = around.memory.call(downsampler, h)
            skips.append(h)
        return h, skips


class UpBlock(_Block):
    """One level of the decoder: the first resnet takes the skip plainly, all the rest is one run; double."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__(config, level, config.layers_per_block + 1)
        widths = config.block_channels
        channels, last = widths[level], level == len(widths) - 1
        incoming = channels * config.bottleneck_repeat if last else widths[level + 1]
        skips = [channels] * config.layers_per_block + [widths[max(level - 1, 0)]]
        inputs = [incoming + skips[0]] + [channels + skip for skip in skips[1:]]
        self.resnets = nn.ModuleList([make_resnet(config, width, channels) for width in inputs])
        links = len(inputs) - 1 + len(inputs) * self._links_after(config, level)
        name = f"up_blocks.{len(widths) - 1 - level}.run"
        self.run = WiredRun(links, config.v, config.v_range, name=name) if config.wired and links else PlainRun()
        self.upsamplers = nn.ModuleList([Upsample2D(channels, use_conv=True)] if level > 0 else [])

    def forward(self, h: Tensor, skips: list[Tensor], around: Surroundings) -> Tensor:
        """h (B, C_in, H, W) and as many skips as resnets, in the order of use → (B, C, 2H, 2W)."""
        bodies: list[nn.Module] = []
        extras: list[tuple[Any, ...]] = []
        for i, resnet in enumerate(self.resnets):
            more_bodies, more_extras = self._layer(i, _WithSkip(resnet), (skips[i], around.embedding), around)
            bodies += more_bodies
            extras += more_extras
        h = around.memory.call(bodies.pop(0), h, *extras.pop(0))  # takes the coarser level's width
        h, _ = self.run(h, bodies, extras, around.memory)
        for upsampler in self.upsamplers:
            h = around.memory.call(upsampler, h)
        return h

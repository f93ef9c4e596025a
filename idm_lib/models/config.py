"""The numbers that make a U-Net: tiny, Stable Diffusion's and every ablation are one class with other numbers."""

from dataclasses import dataclass

from idm_lib.errors import InputError
from idm_lib.reversible.couplings import V_RANGE


@dataclass(frozen=True)
class UNetConfig:
    """A U-Net's numbers; the defaults are those of the pruned Stable Diffusion v1.5 without injectors.

    Args:
        in_channels: of the input; an image's four pixel-unshuffled channels.
        block_channels: channels of each level, fine to coarse.
        layers_per_block: resnets of a down block; an up block has one more.
        attention: whether the level has attention after each resnet.
        injectors: whether the level has injectors; None for none at all.
        steps: T, how many sets of injector weights there are.
        attention_heads: heads of every attention.
        norm_groups: groups of every group norm.
        bottleneck_repeat: how often the bottleneck's channels are repeated before the first up block (2 in the
            pruned Stable Diffusion U-Net, whose first up block expects the removed mid block's 1280).
        noise_channels: width of the noise embedding; 0 for a network that is not told the noise level.
        wired: whether shape-preserving blocks are wired (reversible) or run as plain residual blocks.
        v: first value of every wiring scalar.
        v_range: bounds on the effective wiring scalars.
        one_pair: whether the pair of streams runs on through all layers of a down block, merged only for the skips,
            as in the paper; otherwise it is merged and doubled anew after each layer.
    """

    in_channels: int = 4
    block_channels: tuple[int, ...] = (320, 640)
    layers_per_block: int = 2
    attention: tuple[bool, ...] = (True, True)
    injectors: tuple[bool, ...] | None = None
    steps: int = 1
    attention_heads: int = 8
    norm_groups: int = 32
    bottleneck_repeat: int = 2
    noise_channels: int = 0
    wired: bool = True
    v: float = 0.5
    v_range: tuple[float, float] = V_RANGE
    one_pair: bool = False

    def __post_init__(self) -> None:
        levels = len(self.block_channels)
        object.__setattr__(self, "block_channels", tuple(self.block_channels))
        object.__setattr__(self, "v_range", tuple(self.v_range))
        for name in ("attention", "injectors"):
            flags = getattr(self, name)
            flags = (False,) * levels if flags is None else tuple(flags)
            object.__setattr__(self, name, flags)
            if len(flags) != levels:
                raise InputError(f"{name} needs one entry for each of {levels} levels; got {len(flags)}.")
        for level, channels in enumerate(self.block_channels):
            if channels % self.norm_groups:
                raise InputError(
                    f"every level's channels must divide into {self.norm_groups} groups; got {channels}."
                )
            if self.attention[level] and channels % self.attention_heads:
                raise InputError(f"{channels} channels do not divide into {self.attention_heads} attention heads.")
            if self.injectors[level] and channels % (block := 4 ** (level + 1)):
                raise InputError(f"injectors at level {level} need a multiple of {block} channels; got {channels}.")

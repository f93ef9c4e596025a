"""A diffusers U-Net's configuration, read as the numbers of the pruned U-Net."""

from collections.abc import Mapping
from typing import Any

from idm_lib.errors import InputError

LEVELS = 2  # how many of the finest levels stay

# What the blocks of this library are built with, whatever the width; another value would be another network.
_FIXED = {
    "in_channels": 4,
    "out_channels": 4,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "center_input_sample": False,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "resnet_out_scale_factor": 1.0,
    "downsample_padding": 1,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
}


def unet_numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers U-Net's configuration in this library's terms; what it leaves out is Stable Diffusion v1.5's.

    Raises:
        InputError: a U-Net of another make, or with numbers that cannot be pruned to two levels.
    """
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise InputError(f"a Stable Diffusion U-Net has {name} = {value!r}; this one has {config[name]!r}.")
    widths = tuple(config.get("block_out_channels", (320, 640, 1280, 1280)))
    if len(widths) < LEVELS or not all(isinstance(w, int) and w > 0 for w in widths):
        raise InputError(f"block_out_channels must be widths of at least {LEVELS} levels; got {widths}.")
    above = widths[min(LEVELS, len(widths) - 1)]  # what the first up block that stays takes from the level above
    if above % widths[LEVELS - 1]:
        raise InputError(
            f"level {LEVELS}'s {above} channels must be a multiple of level {LEVELS - 1}'s {widths[LEVELS - 1]}, "
            "which are repeated to stand in for them; give a U-Net of other widths."
        )
    down = _kept(config, "down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), len(widths))
    up = _kept(config, "up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, len(widths), from_end=True)
    attention = tuple(kind == "CrossAttnDownBlock2D" for kind in down)
    plain = {("DownBlock2D", "UpBlock2D"), ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")}
    if any(pair not in plain for pair in zip(down, up, strict=True)):
        raise InputError(
            f"the two finest levels must be plain or CrossAttn blocks, down and up alike; got {down}, {up}."
        )
    heads = "num_attention_heads" if config.get("num_attention_heads") else "attention_head_dim"  # a misnomer of SD's
    if _one(config, "transformer_layers_per_block", 1, len(widths)) != 1:
        raise InputError("a Stable Diffusion U-Net has one transformer layer per block; this one has more.")
    return {
        "block_channels": widths[:LEVELS],
        "layers_per_block": _one(config, "layers_per_block", 2, len(widths)),
        "attention": attention,
        "attention_heads": _one(config, heads, 8, len(widths)),
        "norm_groups": config.get("norm_num_groups", 32),
        "bottleneck_repeat": above // widths[LEVELS - 1],
    }


def _kept(
    config: Mapping[str, Any], name: str, default: tuple[str, ...], levels: int, from_end: bool = False
) -> tuple[str, ...]:
    """The entries of the levels that stay, fine first."""
    values = tuple(config.get(name, default))
    if len(values) != levels:
        raise InputError(f"{name} needs one entry for each of {levels} levels; got {len(values)}.")
    return (values[::-1] if from_end else values)[:LEVELS]


def _one(config: Mapping[str, Any], name: str, default: int, levels: int) -> int:
    """A number that diffusers gives once or for each level, and that this library has once."""
    value = config.get(name, default)
    values = {value} if isinstance(value, int) else set(tuple(value)[:LEVELS])
    if len(values) != 1:
        raise InputError(f"{name} must be the same at the two finest levels; got {value!r}.")
    return values.pop()

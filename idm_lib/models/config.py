"""The numbers that make a U-Net: tiny, Stable Diffusion's and every ablation are one class with other numbers."""

import inspect
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from idm_lib.errors import InputError
from idm_lib.operators import BlockCS, operator_class, operator_names
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
        joined_injectors: whether an injector is the end of the body before it, and not a wired link of its own. A
            link that starts as the identity still mixes its streams; so only joined injectors can be added to a
            trained network without changing what it computes.
        steps: T, how many sets of injector weights there are.
        attention_heads: heads of every attention.
        norm_groups: groups of every group norm.
        bottleneck_repeat: how often the bottleneck's channels are repeated before the first up block (2 in the
            pruned Stable Diffusion U-Net, whose first up block expects the removed mid block's 1280).
        noise_channels: width of the noise embedding, even; 0 for a network that is not told the noise level.
        wired: whether shape-preserving blocks are wired (reversible) or run as plain residual blocks.
        v: first value of every wiring scalar, within ``v_range``.
        v_range: bounds on the effective wiring scalars, 0 < lo ≤ hi.
        one_pair: whether the pair of streams runs on through all layers of a down block, merged only for the skips,
            as in the paper; otherwise it is merged and doubled anew after each layer.

    Raises:
        InputError: numbers that do not fit together.
    """

    in_channels: int = 4
    block_channels: tuple[int, ...] = (320, 640)
    layers_per_block: int = 2
    attention: tuple[bool, ...] = (True, True)
    injectors: tuple[bool, ...] | None = None
    joined_injectors: bool = False
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
        for name in (
            "in_channels",
            "layers_per_block",
            "steps",
            "attention_heads",
            "norm_groups",
            "bottleneck_repeat",
        ):
            _check_count(name, getattr(self, name), 1)
        for channels in self.block_channels:
            _check_count("every level's channels", channels, 1)
        if not levels:
            raise InputError("block_channels needs one entry for each level; got none; the default is (320, 640).")
        _check_count("noise_channels", self.noise_channels, 0)
        if self.noise_channels % 2:
            raise InputError(
                f"noise_channels must be even, sines and cosines in pairs; got {self.noise_channels}; "
                f"use {self.noise_channels + 1}."
            )
        check_wiring(self.v, self.v_range)
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


def check_record(ratios: tuple[float, float], operator: dict[str, Any] | None) -> None:
    """Refuse a record of what a model was trained on that no operator could be built from.

    Args:
        ratios: lowest and highest γ, in (0, 1].
        operator: of the operator's numbers those that were fixed in training, as ``{"seed": 0, "block_size": 32}``;
            ``operator`` names its class, BlockCS by default.

    Raises:
        InputError: ratios out of order or range, unknown names, or numbers that BlockCS
            refuses.
    """
    if len(ratios) != 2 or not all(_is_number(ratio) for ratio in ratios) or not 0 < ratios[0] <= ratios[1] <= 1:
        raise InputError(f"ratios must be the lowest and highest in (0, 1], as (0.01, 0.5); got {ratios}.")
    if operator is None:
        return
    if not isinstance(operator, dict):
        raise InputError(f"operator must be a dict of an operator's numbers, as {{'seed': 0}}; got {operator!r}.")
    name = operator.get("operator", BlockCS.__name__)
    if name not in operator_names():
        return  # a user's own, which may not be imported here; this is a record, and no operator is built from it
    kind = operator_class(name)
    varied = {"image_size", "ratio", "permutation_seed"} if kind is BlockCS else {"image_size"}
    known = {*inspect.signature(kind).parameters, "operator"} - varied
    if not set(operator) <= known:
        raise InputError(f"operator must be a dict with some of {', '.join(sorted(known))}; got {operator!r}.")
    if kind is BlockCS:
        BlockCS.from_config({"operator": "BlockCS", "image_size": (1, 1), "ratio": 1.0} | operator)


def check_denoising(steps: int, image_mean: float, image_std: float, sigma_min: float, sigma_max: float) -> None:
    """Refuse numbers around a network that no denoiser, and no chain of its calls, could be made of.

    Args:
        steps: T.
        image_mean, image_std: of the images.
        sigma_min, sigma_max: the range of noise levels.

    Raises:
        InputError: fewer than 1 step, a number that is none or not finite, a spread or a level that is not positive,
            or levels out of order.
    """
    _check_count("steps", steps, 1)
    numbers = {"image_mean": image_mean, "image_std": image_std, "sigma_min": sigma_min, "sigma_max": sigma_max}
    for name, value in numbers.items():
        if not _is_number(value) or not isfinite(value):
            raise InputError(f"{name} must be a finite number; got {value!r}.")
    if image_std <= 0:
        raise InputError(f"image_std must be above 0, as 0.25; got {image_std!r}.")
    if not 0 < sigma_min < sigma_max:
        raise InputError(
            f"the noise levels need 0 < sigma_min < sigma_max, as 0.005 and 5; got {sigma_min!r} and {sigma_max!r}."
        )


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}.")


def check_wiring(v: float, v_range: tuple[float, ...], made_up_for: bool = False) -> None:
    """The inverse divides by v, so no bound may reach 0; a v outside its bounds would not be the one that is used.

    Args:
        v: first value of the wiring scalars.
        v_range: bounds on the effective ones.
        made_up_for: whether the body makes up for its share, by v/(1 − v), so that v may not reach 1.

    Raises:
        InputError: one of these rules is broken.
    """
    if not all(_is_number(bound) for bound in v_range) or len(v_range) != 2 or not 0 < v_range[0] <= v_range[1] < inf:
        raise InputError(f"v_range must be two numbers with 0 < low ≤ high; got {v_range}; the default is {V_RANGE}.")
    if not _is_number(v):
        raise InputError(f"v must be a number; got {v!r}; the paper's is 0.5.")
    if not v_range[0] <= v <= v_range[1]:
        low, high = v_range
        raise InputError(f"v must lie in its range {low:g} … {high:g}; got {v:g}; or give another v_range.")
    if made_up_for and v >= 1:
        raise InputError(
            f"v of the steps must be below 1 with this schedule, which makes up for it by v/(1 − v); got {v:g}."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

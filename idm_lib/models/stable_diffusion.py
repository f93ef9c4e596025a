"""Stable Diffusion's U-Net as the start of an invertible diffusion model: what stays, what goes, what is new.

The paper (arXiv 2403.17006) keeps the two finest levels and drops the time embedding, the mid block, the coarse
levels and all cross-attention. The names of what stays are Stable Diffusion's own, so pruning is dropping keys.
VAE and text encoder are never read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from idm_lib.errors import InputError
from idm_lib.models.stable_diffusion_config import LEVELS, unet_numbers
from idm_lib.models.unet_files import find_unet

Model = TypeVar("Model", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]

_NEW = (
    ("injectors", r"\.injectors\."),
    ("noise embedding", r"\.noise_embedding\.|\.time_emb_proj\."),
    ("wiring scalars", r"^chain\.|\.runs?\.(\d+\.)?(s|m|v\.\d+)$"),
    ("the chain's own numbers", r"^(?!unet\.)"),
)


@dataclass(frozen=True)
class PruningReport:
    """What became of each tensor; ``print`` it.

    Args:
        source: the folder or hub id.
        used: numbers in each tensor that was taken over, by Stable Diffusion's name.
        dropped: part → the same, for what was left out.
        new: part → the same, by this library's name, for what Stable Diffusion does not have.
    """

    source: str
    used: Mapping[str, int]
    dropped: Mapping[str, Mapping[str, int]]
    new: Mapping[str, Mapping[str, int]]

    def __str__(self) -> str:
        lines = [f"U-Net of {self.source}"]
        for title, parts in (("used", {}), ("dropped", self.dropped), ("new", self.new)):
            whole = self.used if title == "used" else {k: n for part in parts.values() for k, n in part.items()}
            lines.append(_line(title, whole))
            lines += [_line(f"  {name}", part) for name, part in parts.items()]
        return "\n".join(lines)


def _line(title: str, part: Mapping[str, int]) -> str:
    return f"{title:<26}{len(part):>5} tensors {sum(part.values()):>13,} parameters"


def load_stable_diffusion(
    build: Callable[..., Model],
    source: str | Path,
    steps: int = 3,
    *,
    variant: str | None = None,
    revision: str | None = None,
    torch_dtype: torch.dtype = torch.float32,
    **config: Any,
) -> tuple[Model, PruningReport]:
    """Build a model whose U-Net starts from Stable Diffusion's.

    What is new changes as little as it can: injectors add zero, a noise embedding scales by one and shifts by zero;
    only the wiring, at the paper's v = 0.5, makes the pretrained network another one.

    Args:
        build: the model's class, :class:`~idm_lib.InvertibleDiffusion`.
        source, variant, revision: see :func:`~idm_lib.models.unet_files.find_unet`.
        steps: T.
        torch_dtype: of the model.
        config: any of the class's numbers that the weights do not fix (``wired_steps``, ``v``, ``injectors``,
            ``schedule``, …). ``attention`` may be switched off at a level that has it.

    Returns:
        The model, in evaluation mode, and the report.

    Raises:
        InputError: no such U-Net, one of another make, or numbers that contradict it.
    """
    files = find_unet(source, variant, revision)
    numbers = unet_numbers(files.config)
    attention = tuple(config.pop("attention", numbers["attention"]))
    clash = sorted(set(config) & set(numbers))
    if clash:
        raise InputError(f"{clash[0]} is fixed by the weights at {source}, {numbers[clash[0]]}; leave it out.")
    if len(attention) != LEVELS or any(a and not b for a, b in zip(attention, numbers["attention"], strict=True)):
        raise InputError(
            f"attention may be switched off where the weights have it, {numbers['attention']}; got {attention}."
        )
    model = build(steps=steps, **(numbers | {"attention": attention}), **config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    levels = len(files.config.get("block_out_channels", (0,) * 4))
    taken, report = match(expected, files.shapes, levels, str(source))
    state = {ours: files.read(theirs).reshape(expected[ours]) for ours, theirs in taken.items()}
    model.load_state_dict(state, strict=False)
    for name, parameter in model.named_parameters():
        if ".time_emb_proj." in name:  # of this library's noise embedding, not Stable Diffusion's
            nn.init.zeros_(parameter)
    return nn.Module.to(model, torch_dtype).eval(), report  # diffusers' own warns in vain


def match(expected: Shapes, found: Shapes, levels: int, source: str = "") -> tuple[dict[str, str], PruningReport]:
    """Which of Stable Diffusion's tensors serves as each of ours.

    Args:
        expected: our names and shapes.
        found: Stable Diffusion's.
        levels: how many levels it has (4).
        source: for messages.

    Returns:
        Our name → Stable Diffusion's, and the report.

    Raises:
        InputError: a tensor that is needed is missing or has another shape.
    """
    taken: dict[str, str] = {}
    new: dict[str, dict[str, int]] = {}
    for name, shape in expected.items():
        part = next((part for part, pattern in _NEW if re.search(pattern, name)), None)
        if part:
            new.setdefault(part, {})[name] = prod(shape)
            continue
        theirs = source_key(name, levels)
        if theirs not in found:
            raise InputError(f"{source} lacks {theirs!r}; expected the U-Net of a Stable Diffusion, whole.")
        # SD 2 projects by a linear layer where SD 1 convolves 1 × 1: the same numbers in another shape
        if found[theirs] != shape and (*found[theirs], 1, 1) != shape:
            raise InputError(f"{source} has {theirs!r} of shape {found[theirs]}; its configuration asks for {shape}.")
        taken[name] = theirs
    used = set(taken.values())
    dropped: dict[str, dict[str, int]] = {}
    for name in sorted(set(found) - used):
        dropped.setdefault(_dropped_part(name, levels), {})[name] = prod(found[name])
    return taken, PruningReport(source, {name: prod(found[name]) for name in sorted(used)}, dropped, new)


def source_key(name: str, levels: int) -> str:
    """Stable Diffusion's name of one of our U-Net's tensors: up blocks are counted from the coarsest level."""
    return re.sub(
        r"^up_blocks\.(\d+)", lambda m: f"up_blocks.{int(m[1]) + levels - LEVELS}", name.removeprefix("unet.")
    )


def _dropped_part(name: str, levels: int) -> str:
    block = re.match(r"^(down|up)_blocks\.(\d+)\.(\w+)", name)
    if name.startswith("mid_block."):
        return "mid block"
    if block:
        direction, level, kind = block[1], int(block[2]), block[3]
        coarse = level >= LEVELS or (level == LEVELS - 1 and kind == "downsamplers")
        if coarse if direction == "down" else level < levels - LEVELS:
            return "coarse levels"
        if kind == "attentions":
            return "cross-attention" if re.search(r"\.(attn2|norm2)\.", name) else "attention switched off"
    return "time embedding" if "time_emb" in name else "other parts"

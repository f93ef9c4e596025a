"""The layout of the checkpoints that the paper's authors publish: read, checked, and written back exactly.

Their state dicts list most tensors twice, once by module and once by position in a wired run (1,079 keys for 585
tensors at T = 3). Only names and shapes are known here; no weights and no code of theirs.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.reversible.couplings import widened_range

Model = TypeVar("Model", bound=nn.Module)

_RENAMED = (
    (r"^input_help_scale_factor$", r"chain.s"),
    (r"^merge_scale_factor$", r"chain.m"),
    (r"^body\.(\d+)\.v$", r"chain.v.\1"),
    (r"^(unet\.down_blocks\.\d+)\.input_help_scale_factor$", r"\1.runs.0.s"),
    (r"^(unet\.up_blocks\.\d+)\.input_help_scale_factor$", r"\1.run.s"),
    (r"^(unet\.up_blocks\.\d+)\.merge_scale_factor$", r"\1.run.m"),
    (r"^(unet\.down_blocks\.\d+)\.rev_module_lists\.(\d+)\.(\d+)\.v$", r"\1.runs.\2.v.\3"),
    (r"^(unet\.up_blocks\.\d+)\.rev_module_list\.(\d+)\.v$", r"\1.run.v.\2"),
    (r"^(.*\.injectors\.\d+)\.f2i\.(\d+)\.1\.(weight|bias)$", r"\1.\2.f2i.\3"),
    (r"^(.*\.injectors\.\d+)\.i2f\.(\d+)\.0\.(weight|bias)$", r"\1.\2.i2f.\3"),
)
_MERGES = re.compile(r"^(unet\.down_blocks\.\d+)\.merge_scale_factors$")
_BY_POSITION = re.compile(r"^(unet\.(down|up)_blocks\.(\d+))\.rev_module_lists?\.(?:(\d+)\.)?(\d+)\.body\.(.+)$")


def _module_at(direction: str, level: int, run: int, position: int) -> str:
    """The name, within its block, of the body at a position of a wired run."""
    if direction == "up":
        order = [name for i in range(3) for name in (f"resnets.{i}", *_around(i))][1:]
    else:
        first = (
            [] if (level > 0 and run == 0) else [f"resnets.{run}"]
        )  # the resnet that changes the width is not wired
        order = [*first, *_around(run)]
    if position >= len(order):
        raise InputError(f"the checkpoint has a link {position} in a run of {len(order)}; it is of another model.")
    return order[position]


def _around(i: int) -> tuple[str, str, str]:
    return f"injectors.{2 * i}", f"attentions.{i}", f"injectors.{2 * i + 1}"


def canonical(key: str) -> str:
    """The key that a published key repeats; itself if it repeats none."""
    match = _BY_POSITION.match(key)
    if not match:
        return key
    block, direction, level, run, position, rest = match.groups()
    return f"{block}.{_module_at(direction, int(level), int(run or 0), int(position))}.{rest}"


def from_published_layout(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under this library's names, dtypes kept.

    Raises:
        InputError: a value that is not a tensor of floating-point numbers, NaN or infinite ones among them, or a
            repeated tensor that differs from its first mention.
    """
    found: dict[str, Tensor] = {}
    for key, value in published.items():
        if not isinstance(key, str):
            raise InputError(f"{key!r} is not a tensor's name; expected a state dict of tensors by name.")
        if not isinstance(value, Tensor):
            raise InputError(f"{key!r} holds a {type(value).__name__}; expected a state dict of tensors.")
        if not value.is_floating_point():
            raise InputError(f"{key!r} holds {value.dtype}; expected a state dict of floating-point tensors.")
        first = canonical(key)
        if first != key:
            other = published.get(first)
            if other is None or other.shape != value.shape or not torch.equal(other, value):
                raise InputError(f"{key!r} should repeat {first!r} but differs from it; get a whole checkpoint.")
            continue
        if not bool(value.isfinite().all()):
            raise InputError(f"{key!r} holds NaN or infinite numbers; get a whole copy of the checkpoint.")
        merges = _MERGES.match(key)
        if merges:
            for i in range(value.numel()):
                found[f"{merges[1]}.runs.{i}.m"] = value[i : i + 1]
            continue
        for pattern, name in _RENAMED:
            if re.match(pattern, key):
                key = re.sub(pattern, name, key)
                break
        found[key] = value
    return found


def to_published_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_published_layout`, repeated keys included (they share storage)."""
    published: dict[str, Tensor] = {}
    for key, value in state.items():
        for name, tensor in _published_names(key, value, state):
            published[name] = tensor
    for key in list(published):
        for name in _positions(key):
            published[name] = published[key]
    return published


def _published_names(key: str, value: Tensor, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    if key in ("chain.s", "chain.m"):
        yield {"chain.s": "input_help_scale_factor", "chain.m": "merge_scale_factor"}[key], value
    elif match := re.match(r"^chain\.v\.(\d+)$", key):
        yield f"body.{match[1]}.v", value
    elif match := re.match(r"^(unet\.(down|up)_blocks\.\d+)\.runs?\.(?:(\d+)\.)?s$", key):
        yield f"{match[1]}.input_help_scale_factor", value
    elif match := re.match(r"^(unet\.up_blocks\.\d+)\.run\.m$", key):
        yield f"{match[1]}.merge_scale_factor", value
    elif match := re.match(r"^(unet\.down_blocks\.\d+)\.runs\.(\d+)\.m$", key):
        if match[2] == "0":
            yield f"{match[1]}.merge_scale_factors", torch.cat([state[f"{match[1]}.runs.{i}.m"] for i in range(2)])
    elif match := re.match(r"^(unet\.down_blocks\.\d+)\.runs\.(\d+)\.v\.(\d+)$", key):
        yield f"{match[1]}.rev_module_lists.{match[2]}.{match[3]}.v", value
    elif match := re.match(r"^(unet\.up_blocks\.\d+)\.run\.v\.(\d+)$", key):
        yield f"{match[1]}.rev_module_list.{match[2]}.v", value
    elif match := re.match(r"^(.*\.injectors\.\d+)\.(\d+)\.(f2i|i2f)\.(weight|bias)$", key):
        yield f"{match[1]}.{match[3]}.{match[2]}.{1 if match[3] == 'f2i' else 0}.{match[4]}", value
    else:
        yield key, value


def _positions(key: str) -> Iterator[str]:
    """The keys by position that repeat a published key."""
    match = re.match(r"^(unet\.(down|up)_blocks\.(\d+))\.((?:resnets|attentions|injectors)\.\d+)\.(.+)$", key)
    if not match:
        return
    block, direction, level, module, rest = match.groups()
    for run in range(2 if direction == "down" else 1):
        length = 11 if direction == "up" else (3 if int(level) > 0 and run == 0 else 4)
        for position in range(length):
            if _module_at(direction, int(level), run, position) == module:
                runs = f"rev_module_lists.{run}" if direction == "down" else "rev_module_list"
                yield f"{block}.{runs}.{position}.body.{rest}"


def read_published(source: Mapping[str, Tensor] | str | Path) -> Mapping[str, Tensor]:
    """A published state dict, from a file or as it is; a file is read without running any code in it.

    Raises:
        InputError: no such file, or not a state dict.
    """
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the path of a published checkpoint.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file: all mean the same to a reader
        raise InputError(f"{path} is not a checkpoint that holds weights alone ({type(error).__name__}).") from None
    if not isinstance(state, Mapping):
        raise InputError(f"{path} is not a checkpoint: it holds a {type(state).__name__}; expected a state dict.")
    return state


def load_published(model: type[Model], source: Mapping[str, Tensor] | str | Path, steps: int) -> Model:
    """A model with the weights of a published checkpoint, in their dtype.

    Args:
        model: InvertibleDiffusion, whose first numbers are the paper's.
        source: a state dict, or the path of one.
        steps: T of the model that it was made with.

    Raises:
        InputError: not such a checkpoint, of another T, or with missing, unknown or contradictory tensors.
    """
    state = from_published_layout(read_published(source))
    found = state["alpha"].numel() if "alpha" in state else 0
    if found != steps:
        raise InputError(f"the checkpoint has {found} step(s), not {steps}; call from_published(..., steps={found}).")
    raw = [v for key, value in state.items() if ".v." in key for v in value.flatten().tolist()]
    with torch.device("meta"):
        loaded = model(steps=steps, **({"v_range": widened_range(raw)} if raw else {}))
    expected = loaded.state_dict()
    for key in (*expected, *state):
        if key not in state or key not in expected or state[key].shape != expected[key].shape:
            raise InputError(f"the checkpoint does not fit at {key!r}: missing, unknown or of another shape.")
    loaded.load_state_dict({key: value.clone() for key, value in state.items()}, assign=True)
    for parameter in loaded.parameters():
        parameter.requires_grad_(True)
    return loaded.eval()

"""A run's folder: who may write into it, and what a run leaves there to go on from and to ship."""

from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import ModelMixin
from safetensors import SafetensorError
from torch import nn
from torch.amp import GradScaler

from idm_lib.errors import InputError
from idm_lib.training.checkpoint import load_checkpoint, write_whole
from idm_lib.training.config import TrainConfig

#: What of ``optimiser`` may change when a run is resumed: how fast it learns, and not what it learns. A rate of the
#: schedule's own may be another, but neither come nor go: it has moments of its own in the checkpoint.
CHANGEABLE = ("lr", "schedule_lr", "clip", "warmup", "decay")


def admit(out: Path, config: TrainConfig) -> None:
    """Refuse a folder whose run was begun with other numbers than may change, or has ended with others.

    Args:
        out: folder of the run; it need not exist.
        config: what is to be run there.

    Raises:
        InputError: such a folder.
    """
    path, text = out / "config.yaml", config.to_yaml()
    if not path.exists():
        return
    try:
        found = path.read_text()
        if found == text:
            return
        same = _lasting(yaml.safe_load(found)) == _lasting(yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):  # not what a run has written
        same = False
    if not same or (out / "final").exists():
        raise InputError(
            f"{out} holds a run with another configuration (see {path}), of which until its end only optimiser's "
            f"{', '.join(CHANGEABLE)} may change; choose another --out."
        )


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration a run keeps from its first step to its last."""
    rules = {name: value for name, value in config["optimiser"].items() if name not in CHANGEABLE}
    return config | {"optimiser": rules | {"apart": bool(config["optimiser"]["schedule_lr"])}}


def claim(out: Path, config: TrainConfig) -> None:
    """Write the resolved configuration as ``config.yaml``, where another or none is.

    Raises:
        InputError: it could not be written.
    """
    path, text = out / "config.yaml", config.to_yaml()
    try:
        if not path.exists() or path.read_text() != text:
            write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise InputError(f"{path} could not be written ({error.strerror or error}); make room and resume.") from None


def state_of(
    step: int, model: nn.Module, average: nn.Module, optimiser: Any, scaler: GradScaler | None
) -> dict[str, Any]:
    """What :func:`resume` needs to go on after ``step`` steps to the same bits."""
    return {
        "step": step,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    } | ({"scaler": scaler.state_dict()} if scaler else {})


def resume(path: Path, model: nn.Module, average: nn.Module, optimiser: Any, scaler: GradScaler | None) -> int:
    """Load the checkpoint if there is one; return the next step's number.

    Raises:
        InputError: it is not a checkpoint, or another model's.
    """
    if not path.exists():
        return 0
    state = load_checkpoint(path)
    shares = [group["share"] for group in optimiser.param_groups]  # by the rates of now, not of then
    try:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        for group, share in zip(optimiser.param_groups, shares, strict=True):
            group["share"] = share
        if scaler:
            scaler.load_state_dict(state["scaler"])
        return int(state["step"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path} is not a checkpoint of this model ({first}); choose another --out.") from None


def export(model: ModelMixin, folder: Path, config: TrainConfig) -> None:
    """Save the averaged weights in the precision asked for, as ``from_pretrained`` reads them.

    Raises:
        InputError: they could not be written.
    """
    try:
        nn.Module.to(model, getattr(torch, config.export_dtype))  # diffusers' own warns in vain
        model.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder} could not be written ({error}); make room and give the command again.") from None

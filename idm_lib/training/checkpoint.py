"""Checkpoints that are either whole or not there: written beside, flushed, then renamed."""

import os
from pathlib import Path
from typing import Any

import torch

from idm_lib.errors import InputError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that a kill or a full disk at any moment leaves the previous file as it was.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise InputError(f"the checkpoint {path} could not be written ({error}); the last one is kept.") from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; never runs code from the file.

    Raises:
        InputError: the file is not such a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file: all mean the same to a reader
        raise InputError(f"{path} is not a checkpoint of this library ({type(error).__name__}); delete it.") from None

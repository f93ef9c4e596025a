"""Checkpoints that are either whole or not there: written beside, flushed, then renamed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from idm_lib.errors import InputError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that a kill or a full disk at any moment leaves the previous file as it was.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    try:
        write_whole(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the checkpoint {path} could not be written ({error}); the last one is kept: make room and resume."
        ) from None


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to the disk, and only then put it in path's place.

    Args:
        path: what to make or replace.
        write: called with the open binary file.

    Raises:
        OSError: or whatever ``write`` raises; ``path`` is then as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote; never runs code from the file.

    Raises:
        InputError: the file is not such a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file: all mean the same to a reader
        raise InputError(f"{path} is not a checkpoint of this library ({type(error).__name__}); delete it.") from None

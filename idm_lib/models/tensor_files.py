"""Weights in diffusers' layout: one safetensors file, or an index and its shards."""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from idm_lib.errors import InputError


def tensor_files(fetch: Callable[[str], Path | None], prefix: str, variant: str | None) -> dict[str, Path] | None:
    """The file of each tensor, from one file or an index of several; no tensor is read.

    Args:
        fetch: a file's name → its path, or None if there is none.
        prefix: of the names, as ``unet/``.
        variant: as ``"fp16"`` in ``diffusion_pytorch_model.fp16.safetensors``; None for the plain names.

    Returns:
        Each tensor's file; None if there is neither a whole file nor an index.

    Raises:
        InputError: a file that is broken, or an index whose files do not hold what it lists.
    """
    stem, mark = f"{prefix}diffusion_pytorch_model", f".{variant}" if variant else ""
    if path := fetch(f"{stem}{mark}.safetensors"):
        return dict.fromkeys(_names(path), path)
    index = fetch(f"{stem}.safetensors.index{mark}.json") or fetch(f"{stem}{mark}.safetensors.index.json")
    if index is None:
        return None
    try:
        shards = dict(json.loads(index.read_text())["weight_map"])
        names = {str(name) for name in shards.values()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise InputError(f"{index} is not an index of weights; get a whole copy of the file.") from None
    found: dict[str, Path] = {}
    for name in sorted(names):
        path = fetch(f"{prefix}{name}") if Path(name).name == name and name.endswith(".safetensors") else None
        if path is None:
            raise InputError(
                f"{index} names {name!r}, which is not a safetensors file beside it; get all the shards."
            )
        found |= dict.fromkeys(_names(path), path)
    missing = sorted(set(shards) - set(found))
    if missing:
        raise InputError(
            f"{index} lists {missing[0]!r}, which none of its files holds; get all files of one version."
        )
    return found


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is broken ({error}); get a whole copy of the file.") from None

"""Where weights come from: names shipped in the package, local folders, hub ids; and clear words when they fail."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from idm_lib.errors import InputError
from idm_lib.models.tensor_files import tensor_files

_CONFIG = "config.json"
Model = TypeVar("Model")


def shipped_names() -> list[str]:
    """The names of the weights that come with the package."""
    folder = files("idm_lib") / "weights"
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def resolve(name: str | Path) -> str:
    """A shipped name → its folder; a folder or a hub id (``owner/name``) → itself.

    Raises:
        InputError: none of the three.
    """
    text = str(name)
    if text in shipped_names():
        return str(files("idm_lib") / "weights" / text)
    if Path(text).is_dir():
        return text
    if is_hub_id(text):
        return text
    raise InputError(
        f"there are no weights at {text!r}; expected a shipped name ({', '.join(shipped_names()) or 'none'}), "
        "a folder that save_pretrained wrote, or a hub id such as owner/name."
    )


def is_hub_id(text: str) -> bool:
    """Whether a name reads as ``owner/name``; runs/prior beside a folder runs/ is a misspelt folder."""
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and not Path(text).parent.is_dir()


def load_folder(load: Callable[..., Model], where: str, kind: str, **kwargs: Any) -> Model:
    """Call ``load(where)`` after checking the files that a folder must hold; say plainly what is wrong.

    Args:
        load: diffusers' ``from_pretrained`` of the class.
        where: a folder or hub id.
        kind: the class's name, to be found in the configuration.
        kwargs: passed on.

    Raises:
        InputError: files that are missing, broken, another model's or another version's, or NaN among the weights.
    """
    if Path(where).is_dir():
        check_folder(Path(where), kind, kwargs.get("variant"))
    given = {name: value for name, value in kwargs.items() if not (name == "torch_dtype" and value is None)}
    options = {"torch_dtype": torch.float32} | given | {"use_safetensors": True}  # never a pickle, whoever asks
    try:
        model, report = load(where, **options, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise InputError(f"{where} could not be loaded as {_a(kind)}: {_reason(error)}") from None
    for state, verb in (("missing_keys", "lack"), ("unexpected_keys", "have an unknown")):
        if report[state]:  # diffusers only warns, and leaves what is missing random
            raise InputError(
                f"{where} could not be loaded as {_a(kind)}: its weights {verb} {sorted(report[state])[0]!r}; "
                "get weights and configuration of one version."
            )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError(f"{where} holds NaN or infinite numbers in {name!r}; get a whole copy of the weights.")
    model.eval()
    return model


def _reason(error: Exception) -> str:
    """A loader's complaint in one line."""
    text = str(error).strip()
    shapes = re.search(r"(\S+) expected shape torch\.Size\((.*?)\), but got torch\.Size\((.*?)\)", text)
    if shapes:
        return (
            f"its configuration asks for {shapes[1]!r} of shape {shapes[2]} and its weights hold {shapes[3]}; "
            "get weights and configuration of one version."
        )
    return text.splitlines()[0].split(". ")[0] if text else type(error).__name__


def _a(kind: object) -> str:
    return f"{'an' if str(kind)[:1] in 'AEIOU' else 'a'} {kind}"


def check_folder(folder: Path, kind: str, variant: str | None = None) -> None:
    """Refuse a folder whose configuration or weights are missing, broken or another model's."""

    def fetch(name: str) -> Path | None:
        return path if (path := folder / name).is_file() else None

    if not fetch(_CONFIG):
        raise InputError(f"{folder} has no {_CONFIG}; expected a folder that {kind}.save_pretrained wrote.")
    try:
        config = json.loads((folder / _CONFIG).read_text())
        found = config["_class_name"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(
            f"{folder / _CONFIG} is not the configuration of {_a(kind)}; write the folder anew."
        ) from None
    if found != kind:
        raise InputError(f"{folder} holds {_a(found)}, not {_a(kind)}; load it with {found}.from_pretrained.")
    if tensor_files(fetch, "", variant) is None:
        name = f"diffusion_pytorch_model{f'.{variant}' if variant else ''}.safetensors"
        raise InputError(f"{folder} has no {name}; expected a folder that {kind}.save_pretrained wrote.")

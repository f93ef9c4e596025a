"""What a chain's training may start from, told apart by what is found there and not by what it is called."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from idm_lib.errors import InputError
from idm_lib.models.denoiser import Denoiser
from idm_lib.models.idm import InvertibleDiffusion
from idm_lib.models.storage import resolve, shipped_names
from idm_lib.models.unet_files import KIND as STABLE_DIFFUSION
from idm_lib.models.unet_files import Hub

PUBLISHED = "published checkpoint"


def start_chain(source: str, record: dict[str, Any], **config: Any) -> InvertibleDiffusion:
    """A model in float32 that begins with the weights at ``source``.

    Args:
        source: a prior or a fine-tuned model (a shipped name, a folder or a hub id); a Stable Diffusion (a diffusers
            folder, a pipeline's or its ``unet/``, or a hub id), of which nothing but the U-Net is read; or the file
            of a checkpoint in the layout that the paper's authors publish.
        record: ``ratios`` and ``operator`` of the model's class: what it is going to be trained on.
        config: other numbers of the class. Those that the weights fix may be left out, or must agree with them.

    Raises:
        InputError: nothing there, weights of another kind, or numbers that contradict them.
    """
    kind = what_is(source)
    if kind == Denoiser.__name__:
        return InvertibleDiffusion.from_prior(Denoiser.from_pretrained(source), **record, **config)
    if kind == STABLE_DIFFUSION:
        return InvertibleDiffusion.from_stable_diffusion(source, **record, **config)
    if kind == PUBLISHED:
        model = InvertibleDiffusion.from_published(source, steps=config.get("steps", 3))
        nn.Module.float(model)  # diffusers' own warns in vain
    elif kind == InvertibleDiffusion.__name__:
        model = InvertibleDiffusion.from_pretrained(source)
    else:
        raise InputError(
            f"{source} holds a {kind}; a chain starts from a {Denoiser.__name__}, an {InvertibleDiffusion.__name__}, "
            f"a Stable Diffusion's {STABLE_DIFFUSION} or a {PUBLISHED}."
        )
    for name, value in config.items():
        found = _plain(model.config.get(name))
        if found != _plain(value):
            raise InputError(f"model.{name} is {value!r}, but {source} has {found!r}; leave it out to go on.")
    model.register_to_config(**record)
    return model


def what_is(source: str) -> str:
    """The class whose configuration a shipped name, folder or hub id holds; :data:`PUBLISHED` for a file.

    Raises:
        InputError: nothing there, out of reach, or not a model's configuration.
    """
    if source not in shipped_names() and Path(source).is_file():
        return PUBLISHED
    where = resolve(source)
    hub = None if Path(where).is_dir() else Hub(where, None)
    for name in ("unet/config.json", "config.json"):
        path = hub(name) if hub else Path(where) / name
        if path is not None and path.is_file():
            break
    else:
        raise InputError(
            (hub and hub.unreachable)
            or f"{source} has neither config.json nor unet/config.json; expected a model's folder, or a Stable "
            "Diffusion's."
        )
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["_class_name"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f"{path} is not the configuration of a model; get a whole copy of the folder.") from None


def _plain(value: Any) -> Any:
    """A number of a configuration as JSON has it: tuples are lists."""
    return json.loads(json.dumps(value))

"""The training step of an invertible diffusion model as a problem for the planner, from a name or a configuration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.memory import MemoryPolicy
from idm_lib.memory.planner import Problem
from idm_lib.models.idm import InvertibleDiffusion
from idm_lib.models.named import CONFIGS, named_config
from idm_lib.models.storage import resolve, shipped_names
from idm_lib.operators import BlockCS


def model_config(name: str | Path) -> dict[str, Any]:
    """The configuration of that name: ``sd15``, ``tiny``, or a folder with a ``config.json``.

    Raises:
        InputError: there is none, or it is not an invertible diffusion model's.
    """
    text = str(name)
    if text in CONFIGS:
        return named_config(text)
    folder = Path(resolve(text)) if text in shipped_names() else Path(text)
    if not (folder / "config.json").is_file():
        known = ", ".join(dict.fromkeys([*CONFIGS, *filter(_can_be_planned, shipped_names())]))
        raise InputError(f"there is no model {text!r}; expected one of {known}, or a folder with a config.json.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["_class_name"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(
            f"{folder / 'config.json'} is not the configuration of a model; write the folder anew."
        ) from None
    if kind != InvertibleDiffusion.__name__:
        raise InputError(f"{text} is a {kind}; a plan needs an {InvertibleDiffusion.__name__}, such as sd15.")
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _can_be_planned(name: str) -> bool:
    """Whether shipped weights are those of a model with a plan, and not of a prior."""
    config = json.loads((Path(resolve(name)) / "config.json").read_text(encoding="utf-8"))
    return config["_class_name"] == InvertibleDiffusion.__name__


def training_problem(
    config: dict[str, Any],
    image_size: tuple[int, int],
    *,
    ratio: float = 0.1,
    device: torch.device | str = "cpu",
) -> Callable[[], Problem]:
    """Return what makes the training step: one grey image after another measured, reconstructed, compared.

    Args:
        config: of :class:`~idm_lib.models.InvertibleDiffusion`.
        image_size: (H, W).
        ratio: γ; of next to no influence on the cost.
        device: where the tensors are to be.
    """

    def make() -> Problem:
        try:
            with torch.device(device):
                model = InvertibleDiffusion(**config)
        except TypeError as error:
            raise InputError(f"the configuration does not fit this version: {error}.") from None
        op = BlockCS(image_size, ratio).to(device)
        for dtype in (torch.float32, torch.float64):  # its matrices are there before the step, and not part of it
            op.A(torch.zeros(1, 1, *image_size, dtype=dtype, device=device))

        def loss(batch: int, policy: MemoryPolicy) -> Tensor:
            dtype = next(model.parameters()).dtype
            x = torch.rand(batch, 1, *image_size, dtype=dtype, device=device)
            return (model(op.A(x), op, memory=policy) - x).abs().mean()

        return Problem(model.train(), loss)

    return make

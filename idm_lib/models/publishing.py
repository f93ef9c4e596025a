"""Giving a model away: a folder with a model card, and the same on the hub."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from torch import nn

from idm_lib.errors import InputError

_CARD = "README.md"


def save_folder(save: Callable[..., None], model: nn.Module, where: str | Path, **kwargs: Any) -> None:
    """Call ``save(where)``, diffusers' ``save_pretrained``, and write a model card beside the weights.

    Args:
        save: as above.
        model: it.
        where: a folder, made if need be; a card that is there already stays.
        kwargs: passed on.

    Raises:
        InputError: not a folder that can be written to, or pickled weights asked for.
    """
    folder = Path(where)
    if not kwargs.pop("safe_serialization", True):
        raise InputError("weights are written as safetensors only, never pickled; leave safe_serialization out.")
    if kwargs.pop("push_to_hub", False):
        raise InputError("save_pretrained writes a folder; call push_to_hub(repo_id) for the hub.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save(str(folder), **kwargs)
        if not (folder / _CARD).exists():
            (folder / _CARD).write_text(model_card(model), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror or error}); give another folder.") from None


def upload(
    model: Any,
    repo_id: str,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    variant: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload what ``model.save_pretrained`` writes: safetensors, configuration and model card.

    Args:
        model: with ``save_pretrained``.
        repo_id: ``owner/name``; made if it does not exist.
        commit_message, create_pr: of the commit.
        private: whether a new repository is private.
        token: of the account; the one that ``hf auth login`` stored by default.
        variant: of the weights' name, as ``"fp16"``.
        api: the hub's client, for a hub of one's own.

    Returns:
        The commit's address.

    Raises:
        InputError: no network, no right to write there, or a name that the hub does not take.
    """
    api = api or HfApi(token=token)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, variant=variant)
        try:
            repo_id = api.create_repo(repo_id, token=token, private=private, exist_ok=True).repo_id
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                token=token,
                commit_message=commit_message or f"Upload {type(model).__name__}",
                create_pr=create_pr,
            )
        except Exception as error:  # the hub's client raises its HTTP library's own kinds, which differ by version
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{repo_id} could not be uploaded to: {first.rstrip('.')}.") from None
    return str(commit.commit_url)


def model_card(model: Any) -> str:
    """What a stranger must know of a model, from its configuration."""
    config, name = model.config, type(model).__name__
    low, high = config.ratios
    example = _operator_example(config.operator or {}, max(low, min(high, 0.1)))
    trained_on = ", ".join(
        f"{key} {value}" for key, value in sorted((config.operator or {}).items()) if key != "operator"
    )
    parameters = sum(p.numel() for p in model.parameters())
    return f"""---
library_name: diffusers
tags:
- compressed-sensing
- image-reconstruction
- invertible-network
---

# {name}, {config.steps} step{"s" if config.steps > 1 else ""}

Reconstructs images from linear measurements in {config.steps} sampling steps that were trained as one network,
after Chen et al., "Invertible Diffusion Models for Compressed Sensing" (arXiv 2403.17006).

| | |
| --- | --- |
| parameters | {parameters:,} |
| schedule | {config.schedule} |
| wired | steps: {config.wired_steps}, blocks: {config.wired_blocks} |
| channels | {", ".join(map(str, config.block_channels))} |
| measurements per pixel | {low:g} to {high:g} |
| operator in training | {trained_on or "not recorded"} |

```python
import idm_lib as idm

model = idm.{name}.from_pretrained("this folder or repository")
op = {example}
x_hat = model(op.A(x), op)  # x: (B, 1, 256, 256) in [0, 1]
```
"""


def _operator_example(record: dict[str, Any], ratio: float) -> str:
    """A line of Python that makes an operator such as the model was trained on."""
    numbers = dict(record)
    kind = numbers.pop("operator", "BlockCS")
    if kind == "BlockCS":
        numbers = {"ratio": ratio, "block_size": 32, "seed": 0} | numbers
    elif "ratio" not in numbers and kind in ("Inpainting", "Hadamard", "MRI"):
        numbers = {"ratio": ratio} | numbers
    given = {name: value[0] if isinstance(value, list) and value else value for name, value in numbers.items()}
    return f"idm.{kind}({', '.join(['(256, 256)', *(f'{name}={value!r}' for name, value in given.items())])})"

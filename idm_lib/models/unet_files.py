"""The files of a diffusers U-Net: found in a folder or fetched from the hub, and read without running any code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import safe_open
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.models.storage import is_hub_id
from idm_lib.models.tensor_files import tensor_files

KIND = "UNet2DConditionModel"


@dataclass(frozen=True)
class UNetFiles:
    """A U-Net on the disk.

    Args:
        source: what it was asked for as.
        config: its ``config.json``.
        files: the file that holds each tensor.
        shapes: of each tensor.
    """

    source: str
    config: dict[str, Any]
    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> Tensor:
        """One tensor, as it is stored.

        Raises:
            InputError: NaN or infinite numbers in it.
        """
        with safe_open(self.files[name], framework="pt") as file:
            value = file.get_tensor(name)
        if not bool(value.isfinite().all()):
            raise InputError(f"{self.files[name]} holds NaN or infinite numbers in {name!r}; get a whole copy of it.")
        return value


def find_unet(source: str | Path, variant: str | None = None, revision: str | None = None) -> UNetFiles:
    """Find a U-Net's configuration and tensors; nothing but these is fetched, and no tensor is read yet.

    Args:
        source: a pipeline's folder (with ``unet/`` in it), a U-Net's own folder, or the hub id of either.
        variant: as ``"fp16"`` in ``diffusion_pytorch_model.fp16.safetensors``; None for the full precision where it
            is there, and for ``fp16`` otherwise.
        revision: branch, tag or commit on the hub.

    Raises:
        InputError: nothing there, no network, not a ``UNet2DConditionModel``, no safetensors, or a broken file.
    """
    where = Path(source)
    hub = None
    if where.is_dir():

        def fetch(name: str) -> Path | None:
            return path if (path := where / name).is_file() else None
    elif is_hub_id(str(source)):
        fetch = hub = Hub(str(source), revision)
    else:
        raise InputError(
            f"there is no Stable Diffusion at {str(source)!r}; expected a diffusers folder (a pipeline's, or its "
            "unet/) or a hub id such as owner/name."
        )
    for prefix in ("unet/", ""):
        if config_path := fetch(f"{prefix}config.json"):
            break
    else:
        raise InputError(
            (hub and hub.unreachable)
            or f"{source} has neither unet/config.json nor config.json; expected a diffusers folder."
        )
    config = _read_config(config_path)
    for each in (variant,) if variant else (None, "fp16"):
        if files := tensor_files(fetch, prefix, each):
            break
    else:
        wanted = f"diffusion_pytorch_model{f'.{variant}' if variant else ''}.safetensors"
        raise InputError(
            (hub and hub.unreachable)
            or f"{source} has no {prefix}{wanted}, whole or in shards; pickled weights are not read: save it "
            "anew with safe_serialization=True."
        )
    return UNetFiles(str(source), config, files, _shapes(files))


class Hub:
    """Files of one hub repository, each fetched when asked for; the hub's cache is used when it is out of reach."""

    def __init__(self, repository: str, revision: str | None) -> None:
        self.repository, self.revision = repository, revision
        self.unreachable: str | None = None

    def __call__(self, name: str) -> Path | None:
        """Where the file is now; None if the repository lacks it or it is out of reach, see :attr:`unreachable`."""
        try:
            return Path(hf_hub_download(self.repository, name, revision=self.revision))
        except LocalEntryNotFoundError:
            self.unreachable = (
                f"{name} of {self.repository} is not in the local cache and the hub could not be reached; connect to "
                "the network once, or give the path of a downloaded folder."
            )
            return None
        except EntryNotFoundError:
            return None
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{self.repository} could not be fetched from the hub: {first.rstrip('.')}.") from None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
        found = config["_class_name"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f"{path} is not the configuration of a {KIND}; get a whole copy of the file.") from None
    if found != KIND:
        raise InputError(f"{path} is the configuration of a {found}; expected a {KIND}, as Stable Diffusion's is.")
    return config


def _shapes(files: dict[str, Path]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in dict.fromkeys(files.values()):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 -- not iterable itself
    return shapes

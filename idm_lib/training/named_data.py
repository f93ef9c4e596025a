"""Training images by name: public sets, fetched once and checked, and images made of nothing but chance.

``data.folder`` of a configuration is a folder if there is one of that path, and otherwise one of these names.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from idm_lib.errors import InputError
from idm_lib.images import image_files


@dataclass(frozen=True)
class PublicSet:
    """An archive of images that anyone may download.

    Args:
        url: of the archive, zip or tar.
        sha256: of its bytes, hexadecimal.
        gigabytes: its size, for the message.
        images: folders of the images within it.
        terms: under which they may be used, in a few words.
    """

    url: str
    sha256: str
    gigabytes: float
    images: tuple[str, ...]
    terms: str


#: Checksums: TensorFlow Datasets' records of both archives.
PUBLIC_SETS = {
    "div2k": PublicSet(
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
        "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
        3.5,
        ("DIV2K_train_HR",),
        "800 photographs of 2K, for academic research",
    ),
    "flowers": PublicSet(
        "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        0.23,
        tuple(f"flower_photos/{kind}" for kind in ("daisy", "dandelion", "roses", "sunflowers", "tulips")),
        "3670 small photographs with traces of JPEG, CC BY",
    ),
}
SYNTHETIC = "synthetic"


def data_names() -> str:
    """The names, for messages."""
    return ", ".join([*PUBLIC_SETS, SYNTHETIC])


def is_synthetic(folder: str | Path) -> bool:
    """Whether ``data.folder`` asks for images made of chance."""
    return str(folder) == SYNTHETIC and not Path(folder).is_dir()


def image_paths(folder: str | Path, needed: bool = True) -> list[Path]:
    """The image files of a folder, sorted by name, or those of a public set, which is fetched if need be.

    Args:
        folder: or the name of a set.
        needed: see :func:`~idm_lib.images.image_files`.

    Raises:
        InputError: neither, no image in it, or a set that could not be fetched.
    """
    if Path(folder).is_dir():
        return image_files(folder, needed)
    if str(folder) in PUBLIC_SETS:
        return [path for part in fetch(PUBLIC_SETS[str(folder)]) for path in image_files(part)]
    raise InputError(f"{folder} is not a folder; give the folder that holds the images, or one of {data_names()}.")


def cache_folder() -> Path:
    """Where archives are kept: ``IDM_DATA`` if set, else ``idm_lib`` in the user's cache."""
    import pooch

    return Path(os.environ.get("IDM_DATA") or pooch.os_cache("idm_lib"))


def fetch(data: PublicSet, cache: Path | None = None) -> list[Path]:
    """The folders of a set's images, downloaded and unpacked if they are not there yet.

    The archive is fetched beside its place, with a progress bar, and moved there once its checksum is right.

    Args:
        data: which set.
        cache: folder to keep it in; default: :func:`cache_folder`.

    Raises:
        InputError: pooch is not installed, no connection, a wrong checksum, or no room.
    """
    try:
        import pooch
    except ImportError:
        raise InputError(
            "public sets are fetched with pooch, which is not installed; pip install pooch, or give a folder."
        ) from None
    folder = cache or cache_folder()
    name = data.url.rsplit("/", 1)[-1]
    unpacked = folder / f"{name}.images"
    if not unpacked.exists():
        # Unpacked beside its place and moved there whole, so that neither a kill nor another run leaves a half.
        part = folder / f"{name}.{os.getpid()}.part"
        unpack = (pooch.Unzip if name.endswith(".zip") else pooch.Untar)(extract_dir=part.name)
        download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60)
        try:
            pooch.retrieve(data.url, f"sha256:{data.sha256}", name, folder, unpack, download)
            _move(part, unpacked)
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            raise InputError(
                f"{data.url} ({data.gigabytes} GB) could not be fetched to {folder} ({error}); give the command "
                "again, another folder in IDM_DATA, or images of your own."
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return [unpacked / part for part in data.images]


def _move(part: Path, whole: Path) -> None:
    """Put a folder in its place, unless another run has been first."""
    try:
        part.rename(whole)
    except OSError:
        if not whole.exists():
            raise

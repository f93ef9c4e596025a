"""The demonstration page's content: the shipped model, and photographs to try it on."""

from torch import Tensor

from idm_lib.export import Exported, export
from idm_lib.models import InvertibleDiffusion
from idm_lib.notebook.photos import photo

#: Photographs that come with scikit-image, and what is in them.
PHOTOS = {
    "camera": "a man behind a camera on a tripod, in a park",
    "chelsea": "a cat's face",
    "coffee": "a cup of coffee on a saucer, with a spoon",
    "rocket": "a rocket on its launch pad at night",
}


def demo_content(model: str = "tiny", size: int = 256) -> tuple[Exported, dict[str, tuple[Tensor, str]]]:
    """What :func:`idm_lib.export.page` and :func:`idm_lib.export.fragment` are given.

    Args:
        model: name or folder, as of :meth:`~idm_lib.InvertibleDiffusion.from_pretrained`.
        size: side of the images in pixels, a multiple of the operator's block, and no more than the photographs'.

    Raises:
        InputError: no such model, or one that cannot be exported, or a size that does not fit.
    """
    photos = {name: (photo(name, size), alt) for name, alt in PHOTOS.items()}  # refused at once, an export takes long
    return export(InvertibleDiffusion.from_pretrained(model).eval(), (size, size)), photos

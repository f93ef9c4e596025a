"""Real photographs that come with scikit-image: no download, known licences."""

from typing import TYPE_CHECKING

from idm_lib.errors import InputError

if TYPE_CHECKING:
    import torch

PHOTOS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "page",
    "retina",
    "rocket",
)

_LUMA = (0.299, 0.587, 0.114)  # full-range BT.601, the luminance that the field's test sets use


def photo(name: str, size: int | None = 256, color: bool = False) -> "torch.Tensor":
    """Return a bundled photograph.

    Args:
        name: One of ``PHOTOS``.
        size: Side of the square to which the centre is cropped and averaged down; None keeps the photograph.
        color: Red, green and blue instead of luminance.

    Returns:
        float32 tensor (1, 1, H, W), or (1, 3, H, W) in colour, in [0, 1].

    Raises:
        InputError: If there is no such photograph, or it is smaller than ``size``.
    """
    import torch
    import torch.nn.functional as F
    from skimage import data

    if name not in PHOTOS:
        raise InputError(f"expected one of {', '.join(PHOTOS)}, got {name!r}; choose one of those photographs")
    pixels = torch.from_numpy(getattr(data, name)()).float() / 255
    image = pixels.permute(2, 0, 1)[None, :3] if pixels.ndim == 3 else pixels[None, None]  # (1, C, H, W)
    if image.shape[1] == 3 and not color:
        image = (image * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if image.shape[1] == 1 and color:
        image = image.expand(-1, 3, -1, -1)
    if size is not None:
        side = min(image.shape[-2:])
        if side < size:
            raise InputError(f"expected a size of at most {side} for {name!r}, got {size}; ask for a smaller square")
        top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
        image = image[..., top : top + side, left : left + side]
        if side != size:
            image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
    return image.clamp(0, 1).contiguous()

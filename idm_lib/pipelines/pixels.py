"""Images of any kind that people have, as planes of grey in [0, 1], and back."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.images import luminance, pil_pixels, read_pixels, to_tensor

OUTPUT_TYPES = ("pil", "np", "pt")


def planes_of(image: Any, colour: bool) -> list[Tensor]:
    """Every image as planes, (C, 1, H, W) in [0, 1], C = 1 or 3.

    Args:
        image: one or a list of: a path, a PIL image, an array (H, W), (H, W, 1 or 3) or (B, H, W, 1 or 3), a tensor
            (H, W), (1 or 3, H, W) or (B, 1 or 3, H, W). Integers are scaled by their type's largest value; floats
            lie in [0, 1].
        colour: keep three channels, to be measured one by one; otherwise their luminance.

    Raises:
        InputError: nothing of the kind, no image at all, or values outside [0, 1].
    """
    if isinstance(image, list | tuple):
        found = [planes for each in image for planes in planes_of(each, colour)]
        if not found:
            raise InputError("image must be an image or a list of them; got an empty list.")
        return found
    if isinstance(image, str | Path):
        pixels = read_pixels(image)
    elif isinstance(image, Image.Image):
        pixels = pil_pixels(image)
    elif isinstance(image, np.ndarray):
        return [_planes(torch.from_numpy(_movable(each)), colour) for each in _each(image, channels_last=True)]
    elif isinstance(image, Tensor):
        return [_planes(each.detach(), colour) for each in _each(image, channels_last=False)]
    else:
        raise InputError(
            f"image must be a path, PIL image, array, tensor or a list of them; got {type(image).__name__}."
        )
    return [to_tensor(pixels if colour else luminance(pixels))]


def _each(batch: Any, channels_last: bool) -> list[Any]:
    """The images of an array or tensor, each (C, H, W), C = 1 or 3."""
    if batch.ndim == 2:
        batch = batch[None] if not channels_last else batch[..., None]
    if batch.ndim == 3:
        batch = batch[None]
    axis = -1 if channels_last else 1
    if batch.ndim != 4 or batch.shape[axis] not in (1, 3) or 0 in tuple(batch.shape):
        wanted = "(H, W), (H, W, C) or (B, H, W, C)" if channels_last else "(H, W), (C, H, W) or (B, C, H, W)"
        raise InputError(f"an image must have shape {wanted} with C = 1 or 3; got {tuple(batch.shape)}.")
    return [np.moveaxis(each, -1, 0) if channels_last else each for each in batch]


def _movable(array: np.ndarray) -> np.ndarray:
    """An array that torch takes: contiguous, of a type that it knows."""
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind not in "uif":
        raise InputError(f"an image must hold numbers; got {array.dtype}.")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))  # TIFF and FITS have the other order


def _planes(image: Tensor, colour: bool) -> Tensor:
    """(C, H, W) of any number type → (C, 1, H, W) or its luminance (1, 1, H, W), floating point in [0, 1]."""
    if not image.is_floating_point():
        if image.dtype not in (torch.uint8, torch.uint16):
            raise InputError(f"an image of whole numbers must be uint8 or uint16; got {image.dtype}.")
        pixels = np.moveaxis(image.cpu().numpy(), 0, -1)  # (H, W, C)
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        return to_tensor(np.ascontiguousarray(pixels if colour else luminance(pixels)))
    if not bool(image.isfinite().all()):
        raise InputError("an image must be finite; got NaN or infinite pixels; mend the data.")
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise InputError(f"an image of floats must lie in [0, 1]; got {low:.4g} to {high:.4g}; scale it.")
    if len(image) == 3 and not colour:
        image = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)  # (1, H, W)
    return image[:, None]


def delivered(images: list[Tensor], output_type: str) -> Any:
    """Planes (C, 1, H, W) as asked for: ``pil``, a list; ``np``, (B, H, W, C); ``pt``, (B, C, H, W).

    Images of different sizes or channels come as a list of arrays or tensors.
    """
    if output_type == "pt":
        return stacked([image[:, 0] for image in images])
    arrays = [image[:, 0].permute(1, 2, 0).float().cpu().numpy() for image in images]  # (H, W, C)
    if output_type == "np":
        return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays
    pixels = [(array * 255).round().astype(np.uint8) for array in arrays]
    return [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in pixels]


def stacked(tensors: list[Tensor]) -> Tensor | list[Tensor]:
    """One tensor if the shapes agree, else the list."""
    return torch.stack(tensors) if len({tensor.shape for tensor in tensors}) == 1 else tensors

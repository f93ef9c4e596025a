"""Reading and writing images: one way for commands, test sets, training and chapters alike."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.medical import SUFFIXES as SCANS
from idm_lib.medical import is_scan, read_slice

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".pgm", ".ppm")


def read_pixels(path: str | Path) -> np.ndarray:
    """The pixels of an image file as stored: (H, W) grey or (H, W, 3) RGB, uint8 or uint16.

    EXIF orientation is applied; palettes are looked up; transparency is laid on white; of an animation the first
    frame counts; 16-bit depth is kept where the decoder gives it (grey PNG and TIFF); 1-bit files, and
    floating-point ones whose values are taken to lie in [0, 1], become 8-bit grey.

    A medical scan gives one slice, grey and uint16: that of a name as ``scan.nii.gz#80``, or else the middle one. See
    :mod:`idm_lib.medical`.

    Raises:
        InputError: the file is missing, not an image, or cut off; it names the file.
    """
    path = Path(path)
    if is_scan(path):
        return read_slice(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected an image file.")
        with Image.open(path) as image:
            image.load()
            return pil_pixels(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the path of an image file.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read; ask for permission to read it, or give another file.") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that can be read; expected PNG, JPEG, TIFF or the like.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is a broken image ({error}); get a whole copy of the file.") from None


def pil_pixels(image: Image.Image) -> np.ndarray:
    """The pixels of a PIL image, (H, W) or (H, W, 3), uint8 or uint16, by the rules of :func:`read_pixels`."""
    if image.mode.startswith("I"):  # I;16 and kin, or 32-bit integers that hold 16-bit values
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return (np.clip(np.nan_to_num(np.asarray(image)), 0, 1) * 255).round().astype(np.uint8)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(image.convert("L" if grey else "RGB"))


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Full-range luma Y = 0.299 R + 0.587 G + 0.114 B, (H, W[, 3]) → (H, W), in the input's integer type.

    8-bit values are those of OpenCV's fixed-point conversion (14 fractional bits), which the IDM paper's
    evaluation uses, so that the numbers compare.
    """
    if pixels.ndim == 2:
        return pixels
    red, green, blue = (pixels[..., c].astype(np.int64) for c in range(3))
    return ((4899 * red + 9617 * green + 1868 * blue + (1 << 13)) >> 14).astype(pixels.dtype)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W) or (H, W, 3), uint8 or uint16 → float32 (1, 1, H, W) or (3, 1, H, W) in [0, 1].

    A colour image becomes a batch of three grey ones, since the operators measure one channel at a time.
    """
    scale = np.float32(np.iinfo(pixels.dtype).max)
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)  # (1 or 3, H, W)
    return torch.from_numpy(planes.astype(np.float32) / scale)[:, None]


def load_image(path: str | Path, colour: bool = False) -> Tensor:
    """An image file as a tensor in [0, 1]: luminance (1, 1, H, W), or with ``colour`` (3, 1, H, W) if it has any."""
    pixels = read_pixels(path)
    return to_tensor(pixels if colour else luminance(pixels))


def save_image(path: str | Path, image: Tensor) -> None:
    """Write (1, 1, H, W) as grey or (3, 1, H, W) as RGB, 8 bits, clamped to [0, 1]; the suffix sets the format.

    Raises:
        InputError: another shape, NaN pixels, or a suffix that names no format.
    """
    if image.dim() != 4 or image.shape[0] not in (1, 3) or image.shape[1] != 1:
        raise InputError(f"an image must have shape (1, 1, H, W) or (3, 1, H, W); got {tuple(image.shape)}.")
    if bool(image.isnan().any()):
        raise InputError(f"the image for {path} has NaN pixels; look into what made it.")
    planes = (image.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)[:, 0].numpy()
    try:
        Image.fromarray(planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)).save(path)
    except ValueError:
        raise InputError(f"{path} names no image format; end it in {', '.join(SUFFIXES)}.") from None


def image_files(folder: str | Path, needed: bool = True) -> list[Path]:
    """The image files of a folder by their suffix, sorted by name, not recursive; medical scans are not among them.

    Args:
        folder: to look into.
        needed: whether a folder without an image is refused; it may hold scans.

    Raises:
        InputError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the images.")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if needed and not files:
        raise InputError(f"{folder} holds no image; expected files ending in {', '.join(SUFFIXES + SCANS)}.")
    return files

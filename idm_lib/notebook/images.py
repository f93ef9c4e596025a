"""Show images in a page: inlined, captioned, described."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from idm_lib.errors import InputError
from idm_lib.notebook.html import check_words, emit, wrap

PIXEL_ART = 96  # below this side an image shows single pixels: never blur or compress it
MIN_SHOWN = 200  # CSS pixels; small images are enlarged to be seen at all


def to_pixels(image: Any) -> np.ndarray:
    """Return ``image`` as uint8 pixels.

    Args:
        image: Tensor or array (H, W), (1, H, W), (3, H, W), (H, W, 3), (1, 1, H, W) or (1, 3, H, W), nominally
            in [0, 1]; values outside are clipped.

    Returns:
        uint8 array (H, W) or (H, W, 3).

    Raises:
        InputError: If it has another shape.
    """
    values = image.detach().cpu().double().numpy() if hasattr(image, "detach") else np.asarray(image)
    shape = values.shape
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0)
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[2] == 3):
        raise InputError(
            f"expected one image (H, W) or (1, C, H, W), got shape {tuple(shape)}; pick one of the batch"
        )
    values = np.nan_to_num(values.astype(np.float64))
    return np.round(values.clip(0, 1) * 255).astype(np.uint8)


def side_by_side(images: Sequence[Any], gap: int = 6) -> np.ndarray:
    """Return images of one height as one array, with a white gap between them."""
    arrays = [to_pixels(image) for image in images]
    if any(array.ndim == 3 for array in arrays):
        arrays = [a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for a in arrays]
    if len({array.shape[0] for array in arrays}) != 1:
        raise InputError(f"expected images of one height, got {[a.shape[0] for a in arrays]}; resize them first")
    space = np.full((arrays[0].shape[0], gap, *arrays[0].shape[2:]), 255, np.uint8)
    pieces = [piece for array in arrays for piece in (array, space)][:-1]
    return np.concatenate(pieces, axis=1)


def data_uri(pixels: np.ndarray) -> str:
    """Return uint8 pixels as an inlined WebP; small images without loss, photographs at high quality."""
    from PIL import Image

    buffer = io.BytesIO()
    lossless = max(pixels.shape[:2]) <= PIXEL_ART
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=lossless, quality=100 if lossless else 74, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def img(pixels: np.ndarray, alt: str, width: int | None = None) -> str:
    """Return an ``<img>`` element. ``width`` is in CSS pixels; the element shrinks with the page."""
    height, native = pixels.shape[:2]
    width = width or max(native, MIN_SHOWN)
    small = ' class="nbf-px dark-light"' if max(height, native) <= PIXEL_ART else ' class="dark-light"'
    return (
        f'<img{small} src="{data_uri(pixels)}" alt="{escape(alt)}" width="{width}" '
        f'height="{round(width * height / native)}">'
    )


def show(
    images: Any, titles: Sequence[str] | None = None, *, caption: str, alt: str, width: int | None = None
) -> None:
    """Show one image, or several in a row; on a narrow page it wraps, and all stay of one width.

    Args:
        images: An image, or a list of them; see ``to_pixels`` for shapes. Range [0, 1].
        titles: A short line below each image.
        caption: What the reader should see in the figure.
        alt: What is in the figure, for who cannot see it.
        width: CSS pixels for each image; None shows it at its own size, at least 200.

    Raises:
        InputError: If the words are missing or the number of titles differs from that of the images.
    """
    check_words(caption, alt)
    pictures = list(images) if isinstance(images, (list, tuple)) else [images]
    if titles is not None and len(titles) != len(pictures):
        raise InputError(f"expected {len(pictures)} titles, one for each image, got {len(titles)}; add or drop some")
    pixels = [to_pixels(picture) for picture in pictures]
    wide = [width or max(each.shape[1], MIN_SHOWN) for each in pixels]
    cells = []
    for index, each in enumerate(pixels):
        title = titles[index] if titles else ""
        words = alt if len(pixels) == 1 else title or f"image {index + 1} of {len(pixels)}"
        line = f'<span class="nbf-title">{escape(title)}</span>' if title else ""
        cells.append(f'<div class="nbf-cell">{img(each, words, wide[index])}{line}</div>')
    # A row shrinks to 70 % before it wraps, so that three photographs stand side by side in a column of text; and it
    # wraps into halves, so that four are two and two, never three and one.
    most, half = max(wide), (len(pixels) + 1) // 2
    style = f"--n:{len(pixels)};--half:{half};--w:{0.7 * most:.0f}px;--m:{most}px"
    # The alternative text is of the whole row; each image of several is called by its title.
    group = f' role="group" aria-label="{escape(alt)}"' if len(pixels) > 1 else ""
    emit(wrap(f'<div class="nbf-row"{group} style="{style}">{"".join(cells)}</div>', caption, alt, "images"))

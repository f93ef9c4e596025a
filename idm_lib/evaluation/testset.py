"""A folder as a test set: every image through one method at one ratio, broken files named and passed over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.evaluation.metrics import psnr, ssim
from idm_lib.evaluation.reconstruct import Method, reconstruct
from idm_lib.images import image_files, load_image, to_tensor
from idm_lib.medical import find_scans, middle, nearly_empty
from idm_lib.operators import BlockCS


def load_test_set(folder: str | Path, slices: str = "middle") -> tuple[dict[str, Tensor], list[str]]:
    """Every image of a folder as luminance, by file name, and a sentence for each that could not be read.

    Args:
        folder: of images, or of medical scans, which are looked for in the folders below too.
        slices: of each scan: ``middle``, the one in the middle; or ``all``, all but the nearly empty
            (:func:`idm_lib.medical.nearly_empty`). Each goes by its name from ``folder`` on, as ``a/t1.nii.gz#80``.

    Raises:
        InputError: no such folder, not one usable image in it, or another word for ``slices``.
    """
    if slices not in ("middle", "all"):
        raise InputError(f"slices must be middle or all; got {slices!r}.")
    scans, broken = find_scans(folder)
    images = {}
    for path in image_files(folder, needed=not (scans or broken)):
        try:
            images[path.name] = load_image(path)
        except InputError as error:
            broken.append(str(error))
    for scan in scans:
        found, wrong = scan.read()
        broken += wrong
        if found and slices == "middle":
            found = [middle(found)]
        elif found:
            found = [one for one in found if not nearly_empty(one.pixels)]
        images |= {one.name: to_tensor(one.pixels) for one in found}
    if not images:
        reason = broken[0] if broken else "every slice of its scans is nearly empty."
        raise InputError(f"{folder} holds no image that can be read: {reason}")
    return images, broken


def evaluate(
    images: dict[str, Tensor],
    ratio: float,
    method: Method,
    seed: int = 0,
    hold: float = 0.0,
    noise: float = 0.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """The paper's protocol: one Φ for all images, a fresh permutation for each, averages over the images.

    Args:
        images: by name, (1, 1, H, W) in [0, 1].
        ratio: γ.
        method: the solver.
        seed: of Φ; image i is permuted with seed + i.
        hold: fraction of the measurements held back to predict the quality; 0, as in the paper, for none.
        noise: standard deviation of white noise added to every measurement, of the image's range of 1; that of
            image i follows from seed + i. The method is not told.
        progress: called with (images done, images in all, name).

    Returns:
        ``{"images", "ratio", "true_ratio", "psnr", "ssim", "seconds_per_image", "network_calls", "per_image"}``;
        SSIM is None for images smaller than its window, PSNR infinite where nothing is wrong at all.

    Raises:
        InputError: ratio, seed or noise outside its range, or an image or method that cannot be used.
    """
    if not 0 <= noise < float("inf"):
        raise InputError(f"noise must be at least 0; got {noise}.")
    rows: list[dict[str, Any]] = []
    op = None
    for i, (name, x) in enumerate(sorted(images.items())):
        size, permutation = tuple(x.shape[-2:]), (seed + i) % 2**32
        if op is None or op.image_size != size:
            op = BlockCS(size, ratio, seed=seed).to(x.device)
        op = op.replace(permutation_seed=permutation)  # the same Φ, not drawn again
        y = op.A(x)  # (1, M)
        if noise:
            drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(permutation), dtype=y.dtype)
            y = y + noise * drawn.to(y.device)
        result = reconstruct(y, op, method, hold=hold, seed=permutation)
        row = {
            "name": name,
            "size": list(x.shape[-2:]),
            "true_ratio": op.true_ratio,
            "psnr": float(psnr(result.image, x)),
            "ssim": float(ssim(result.image, x)) if min(x.shape[-2:]) >= 7 else None,
            "seconds": result.seconds,
            "network_calls": result.solution.network_calls,
        }
        if result.predicted:
            row["predicted"] = {k: getattr(result.predicted, k) for k in ("psnr", "low", "high")}
        rows.append(row)
        if progress:
            progress(i + 1, len(images), name)
    return {
        "images": len(rows),
        "ratio": ratio,
        "true_ratio": _mean([row["true_ratio"] for row in rows]),
        "psnr": _mean([row["psnr"] for row in rows]),
        "ssim": _mean([row["ssim"] for row in rows if row["ssim"] is not None]),
        "seconds_per_image": _mean([row["seconds"] for row in rows]),
        "network_calls": _mean([row["network_calls"] for row in rows]),
        "per_image": rows,
    }


def _mean(values: list[float]) -> float | None:
    return float(torch.tensor(values, dtype=torch.float64).mean()) if values else None

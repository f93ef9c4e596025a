"""PSNR and SSIM in the paper's protocol: one channel, clamped to [0, 1], compared as float."""

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from idm_lib.errors import InputError


def psnr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, one for each image: −10 log₁₀ mse, peak 1.

    Args:
        estimate: (B, 1, H, W); clamped to [0, 1] first, as a picture would be.
        reference: (B, 1, H, W) in [0, 1].

    Returns:
        (B,), float64; infinite where the two are equal.

    Raises:
        InputError: not two tensors of one shape (B, 1, H, W).
    """
    error = _clamped(estimate, reference) - reference.double()
    return -10 * error.square().mean(dim=(1, 2, 3)).log10()  # (B,)


def ssim(estimate: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity, one for each image: scikit-image's, 7 × 7 uniform window, data range 255.

    Libraries differ in window and range (0.9655 against 0.9779 for one pair), so the convention is fixed here
    to the paper's. Args and shapes as :func:`psnr`; (B,), float64.

    Raises:
        InputError: as :func:`psnr`, or an image smaller than the window.
    """
    clamped = _clamped(estimate, reference)
    if min(reference.shape[-2:]) < 7:
        raise InputError(f"SSIM needs images of at least 7 × 7 pixels; got {tuple(reference.shape[-2:])}.")
    pairs = zip(clamped, reference.detach().double(), strict=True)
    values = [structural_similarity(_bytes(a), _bytes(b), win_size=7, data_range=255) for a, b in pairs]
    return torch.tensor(values, dtype=torch.float64)


def _clamped(estimate: Tensor, reference: Tensor) -> Tensor:
    if estimate.shape != reference.shape or estimate.dim() != 4 or estimate.shape[1] != 1:
        raise InputError(
            f"estimate and reference must both be (B, 1, H, W); got {tuple(estimate.shape)} "
            f"and {tuple(reference.shape)}."
        )
    return estimate.detach().double().clamp(0, 1)


def _bytes(image: Tensor) -> np.ndarray:
    return image[0].cpu().numpy() * 255  # (H, W), the scale of 8-bit values but not rounded to them

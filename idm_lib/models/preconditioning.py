"""From a network of unit-variance inputs and outputs to a denoiser of images, at any noise level."""

from collections.abc import Callable

from torch import Tensor


def denoise(
    network: Callable[[Tensor, Tensor], Tensor],
    noisy: Tensor,
    sigma: Tensor,
    mean: float,
    std: float,
    sigma_range: tuple[float, float],
) -> Tensor:
    """D(r, σ) = μ + c_skip (r − μ) + c_out F(c_in (r − μ), σ) (Karras et al., arXiv 2206.00364, table 1).

    c_skip = s²/(σ²+s²), c_out = −σs/√(σ²+s²), c_in = 1/√(σ²+s²): F sees and predicts numbers of unit variance at
    every level, the latter the noise when σ ≪ s and the (negated) image when σ ≫ s.

    Args:
        network: F, told (input, σ), (B, 1, H, W) and (B,).
        noisy: r, (B, 1, H, W).
        sigma: σ > 0, (B,).
        mean, std: μ and s, of natural images.
        sigma_range: the levels that F was trained to be told; others are told as the nearest.
    """
    column = sigma[:, None, None, None]  # (B, 1, 1, 1)
    norm = (column**2 + std**2).sqrt()
    centred = noisy - mean
    out = network(centred / norm, sigma.clamp(*sigma_range))
    return mean + centred * (std / norm) ** 2 - out * (column * std / norm)

"""State evolution: the whole course of a reconstruction from one curve of the denoiser.

With permuted orthonormal rows, r = x̂ + Aᵀ(y − A x̂)/γ behaves like the image in white Gaussian noise whose
variance follows from the error of x̂ alone. So the errors of all iterations follow from the denoiser's mse as a
function of the noise level, measured once and without A. Ma and Ping, "Orthogonal AMP", IEEE Access 5, 2017.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def effective_variance(
    mse: Tensor | float, ratio: float, noise_std: float = 0.0, gain: Tensor | float = 1.0
) -> Tensor | float:
    """τ², the variance of r − x for an estimate x̂ of mean square error ``mse`` and r = x̂ + k·Aᵀ(y − A x̂)/γ.

    r − x = (I − k·AᵀA/γ)(x̂ − x) + k·Aᵀn/γ, hence τ² = (1 − 2k + k²/γ)·mse + k²σ²/γ when the error is not aligned
    with A's rows; with k = 1, ((1 − γ)·mse + σ²)/γ.

    Args:
        mse: mean square error of x̂ per pixel.
        ratio: γ in (0, 1], the true one.
        noise_std: σ of the measurement noise.
        gain: k.
    """
    return (1 - 2 * gain + gain**2 / ratio) * mse + gain**2 * noise_std**2 / ratio


def residual_mse(y: Tensor, estimate: Tensor, op: Any) -> Tensor:
    """The mse of an estimate that did not come from these rows, seen from the measurements alone, (B,).

    mean (y − A x̂)² − σ²: each random orthonormal row takes a random unit-norm sample of the error.
    """
    return mse_of_residual(y - op.A(estimate), op)


def mse_of_residual(residual: Tensor, op: Any) -> Tensor:
    """:func:`residual_mse` of the residual y − A x̂ itself, (B, M) → (B,), if it is needed for more."""
    return (residual.square().mean(dim=1) - getattr(op, "noise_std", 0.0) ** 2).clamp_min(1e-10)


def residual_slope(denoised: Tensor, noisy: Tensor, variance: Tensor) -> Tensor:
    """The mean slope div D / n of a denoiser at each image, from what it removed: 1 − mean (D(r) − r)² / τ², (B,).

    Of the error D(r) − x and the noise r − x, Stein's lemma says that their mean product is τ²·div D/n; and for the
    best denoiser the mean square of the first is the same number. So the mean square of their difference D(r) − r is
    τ²·(1 − div D/n). A probe of D at a second point tells the slope of any denoiser, but costs a network call.

    Args:
        denoised: D(r), (B, 1, H, W).
        noisy: r, (B, 1, H, W).
        variance: τ², (B,).
    """
    return 1 - (denoised - noisy).square().mean(dim=(1, 2, 3)) / variance


def divergence_free_mse(mse: Any, variance: Any) -> Any:
    """mse of the denoiser once the part proportional to its noisy input is taken out: 1 / (1/mse − 1/τ²).

    For the best denoiser the divergence is mse/τ² (Stein), and C (D(r) − div·r) has this error: what one more
    independent look at the image would have to bring, to end at ``mse``.
    """
    return 1 / (1 / mse - 1 / variance)


@dataclass(frozen=True)
class DenoiserCurve:
    """mse of a denoiser as a function of the noise level, interpolated between measured points.

    Args:
        sigmas: (K,) rising noise levels.
        mses: (K,) mean square errors at them.
    """

    sigmas: np.ndarray
    mses: np.ndarray

    def __call__(self, sigma: float) -> float:
        """The mse at a level, by linear interpolation of log mse over log σ."""
        return float(np.exp(np.interp(np.log(sigma), np.log(self.sigmas), np.log(self.mses))))

    @classmethod
    @torch.no_grad()
    def measure(
        cls, denoiser: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: np.ndarray, seed: int = 0
    ) -> "DenoiserCurve":
        """Measure the curve on clean images x, (B, 1, H, W), with seeded noise."""
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
        mses = [float((denoiser(x + s * noise, s) - x).square().mean()) for s in map(float, sigmas)]
        return cls(np.asarray(sigmas, dtype=float), np.asarray(mses))


def predict(
    curve: DenoiserCurve, ratio: float, start_mse: float, iterations: int, noise_std: float = 0.0
) -> list[dict[str, float]]:
    """State evolution of OAMP: for each iteration τ, and the mse of the denoiser's output.

    Args:
        curve: the denoiser's.
        ratio: γ, the true one.
        start_mse: of the first estimate (a constant image: the variance of natural images).
        iterations: how many.
        noise_std: σ of the measurement noise.

    Returns:
        One ``{"tau": τ_t, "mse": mse_t}`` for each iteration.
    """
    course, mse = [], start_mse
    for _ in range(iterations):
        variance = float(effective_variance(mse, ratio, noise_std))
        after = min(curve(variance**0.5), 0.999 * variance)  # no denoiser in its right mind adds noise
        course.append({"tau": variance**0.5, "mse": after})
        mse = divergence_free_mse(after, variance)
    return course

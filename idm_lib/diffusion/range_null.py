"""The range–null-space step: keep what the measurements say, keep of the estimate what they do not see."""

from typing import Any

from torch import Tensor


def range_null_step(x: Tensor, y: Tensor, op: Any) -> Tensor:
    """x − A⁺(A x − y) = A⁺y + (I − A⁺A) x, so that the result explains y exactly.

    The decomposition behind DDNM (Wang et al., arXiv 2212.00490, equation 9) and step 3 of IDM.

    Args:
        x: estimate, (B, C, H, W).
        y: measurements, (B, M).
        op: anything with ``A`` and ``A_dagger``.
    """
    return x - op.A_dagger(op.A(x) - y)


def trusted_step(x: Tensor, y: Tensor, op: Any) -> Tensor:
    """x + λ A⁺(y − A x): the range–null-space step, but only as far as measurements with noise can be trusted.

    The residual's mean square is that of the estimate's error, as A sees it, plus the noise's variance σ². The best
    mixture of the two gives the measurements the error's share, λ = 1 − σ²/mean (y − A x)², at least 0 (Wiener's
    filter with the variance seen, which makes it James and Stein's estimator). Without noise λ = 1.

    Args:
        x: estimate, (B, C, H, W).
        y: measurements, (B, M).
        op: anything with ``A`` and ``A_dagger``; ``noise_std`` is its σ, 0 if it has none.
    """
    noise_std = getattr(op, "noise_std", 0.0)
    residual = y - op.A(x)  # (B, M)
    if noise_std:
        residual = trust(residual, noise_std)[:, None] * residual
    return x + op.A_dagger(residual)


def trust(residual: Tensor, noise_std: float) -> Tensor:
    """λ = max(0, 1 − σ²/mean r²), the share of each residual that is not noise, (B, M) → (B,)."""
    return (1 - noise_std**2 / residual.square().mean(dim=1).clamp_min(1e-20)).clamp_min(0.0)

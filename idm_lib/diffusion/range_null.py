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

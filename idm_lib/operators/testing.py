"""How to tell that an operator is right: each check returns the error that it measured.

Chapter 01 runs them in front of the reader and the tests run them on every operator. In float64, unless asked.
"""

import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import LinearOperator


def _gaussian(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)


def dot_test(
    op: LinearOperator, image_shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64
) -> float:
    """|⟨A x, y⟩ − ⟨x, Aᵀ y⟩| / (‖A x‖ ‖y‖) for random x and y: 0 up to rounding if Aᵀ is A's adjoint.

    Args:
        op: the operator.
        image_shape: (B, C, H, W).
        seed: of x and y.
        dtype: that A and Aᵀ are evaluated in; the dot products are float64 always.

    Raises:
        InputError: Aᵀ A x does not have the shape of x (then no dot product could show anything).
    """
    x = _gaussian(image_shape, seed, op.device)
    ax = op.A(x.to(dtype)).double()  # (B, M)
    y = _gaussian(tuple(ax.shape), seed + 1, op.device)
    aty = op.A_adjoint(y.to(dtype)).double()
    if aty.shape != x.shape:
        raise InputError(
            f"A_adjoint must return images of shape {tuple(x.shape)}; got {tuple(aty.shape)}; "
            "its output must have the shape of A's input."
        )
    return float(abs((ax * y.to(dtype)).sum() - (x.to(dtype) * aty).sum()) / (ax.norm() * y.norm()))


def pseudo_inverse_test(op: LinearOperator, image_shape: tuple[int, ...], seed: int = 0) -> float:
    """‖A A⁺ A x − A x‖ / ‖A x‖: 0 up to rounding if A⁺ explains its own measurements."""
    ax = op.A(_gaussian(image_shape, seed, op.device))
    return float((op.A(op.A_dagger(ax)) - ax).norm() / ax.norm())


def projection_test(op: LinearOperator, image_shape: tuple[int, ...], seed: int = 0) -> float:
    """‖P P x − P x‖ / ‖x‖ for the null-space projection P: 0 up to rounding, since projecting twice is once."""
    x = _gaussian(image_shape, seed, op.device)
    once = op.null_projection(x)
    return float((op.null_projection(once) - once).norm() / x.norm())

"""A⁺ for operators without a closed form: conjugate gradients on the normal equations."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idm_lib.errors import InputError
from idm_lib.operators.base import check_tensor, has_values

Map = Callable[[Tensor], Tensor]


def cg_pseudo_inverse(
    op: Any,
    y: Tensor,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
    noise_std: float = 0.0,
    strict: bool = True,
) -> Tensor:
    """A⁺ y from A and Aᵀ alone, so that ``A_dagger`` can be ``return cg_pseudo_inverse(self, y)``.

    The iteration starts at zero and never leaves the range of Aᵀ: it heads for the smallest of all images that
    explain y best. With r = y − A x, it stops, image by image,

    - when x explains y: ‖r‖ ≤ tolerance · ‖y‖, so that A A⁺ A x = A x to the tolerance; what A barely sees, with a
      singular value below about the tolerance times ‖A‖, may then be left at zero;
    - when no image explains more: ‖Aᵀ r‖ ≤ tolerance · ‖A‖ ‖r‖ (Paige and Saunders, ACM Trans. Math. Softw. 8(1),
      1982, section 6);
    - when the rest is noise: ‖r‖² ≤ noise_std² · M (Morozov's discrepancy principle). An ill-conditioned A⁺ would
      else blow the noise up, and take very long to do so.

    float32 allows a tolerance of about 1e-5; the library's own operators call it in float64.

    Gradients pass in constant memory: that of v with respect to y is (A⁺)ᵀ v = (Aᵀ)⁺ v, found in the same way with
    A and Aᵀ in each other's place, in at most half as many iterations again as that image took, and never more than
    ``max_iterations``: what the image did not resolve, its gradient need not either, but v may be harder than y. With
    a ``noise_std`` it takes no more than the image, for what comes after that is noise. Where y is zero, so that the
    image took none, its gradient may take ``max_iterations``; all noise, it is zero. There is none for what is inside
    ``op``. Neither an image nor its gradient depends on the others in its batch: each stands still once it is done.

    Args:
        op: anything with ``A`` and ``A_adjoint``, linear and adjoint to each other.
        y: (B, M).
        tolerance: as above, in (0, 1).
        max_iterations: at least 1.
        noise_std: σ of the noise on y, 0 for none.
        strict: refuse an image that is not done after ``max_iterations``. Otherwise it is taken as it is, which for
            an ill-conditioned A is a cure, not a fault: the parts that A barely sees come last.

    Returns:
        (B, C, H, W).

    Raises:
        InputError: no convergence, or numbers that are not finite on the way.
    """
    check_tensor(y, "y", y.device)
    check_cg(tolerance, max_iterations)
    if not has_values(y):
        return op.A_adjoint(y)  # shapes alone
    return _PseudoInverse.apply(y, op.A, op.A_adjoint, tolerance, max_iterations, noise_std, strict)


def check_cg(tolerance: float, max_iterations: int) -> None:
    """Refuse what conjugate gradients could not stop at."""
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance must lie in (0, 1), as 1e-6; got {tolerance!r}.")
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 1:
        raise InputError(f"max_iterations must be a whole number of at least 1; got {max_iterations!r}.")


class _PseudoInverse(torch.autograd.Function):
    """y → A⁺ y, with (A⁺)ᵀ = (Aᵀ)⁺ for its gradient."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, forward: Map, adjoint: Map, tolerance: float, limit: int, noise_std: float, strict: bool
    ) -> Tensor:
        goal = torch.clamp(tolerance**2 * _squares(y), min=noise_std**2 * y.shape[1])  # (B,)

        def done(left: Tensor, slope: Tensor, norm: Tensor) -> Tensor:
            return (left <= goal) | (slope <= tolerance**2 * norm * left)

        limits = torch.full((len(y),), limit, device=y.device)
        x, iterations, converged, unexplained = _least_squares(y, forward, adjoint, done, limits)
        if not converged and (strict or not math.isfinite(unexplained)):
            raise InputError(
                f"conjugate gradients did not converge: after {int(iterations.max())} iterations {unexplained:.1e} "
                "of y is unexplained; give noise_std if y has noise, raise tolerance or max_iterations, or see with "
                "dot_test whether A_adjoint is A's adjoint."
            )
        enough = (3 * iterations + 1) // 2
        needed = iterations if noise_std else torch.where(iterations > 0, enough.clamp_max(limit), limit)
        ctx.problem = (forward, adjoint, tolerance, needed)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        forward, adjoint, tolerance, limits = ctx.problem
        goal = tolerance**2 * _squares(forward(gradient))  # (B,)

        def done(_: Tensor, slope: Tensor, __: Tensor) -> Tensor:
            return slope <= goal  # and not the residual: the null space's part of a gradient has no explanation

        return _least_squares(gradient, adjoint, forward, done, limits)[0], *[None] * 6


def _least_squares(
    b: Tensor, forward: Map, adjoint: Map, done: Callable[..., Tensor], limits: Tensor
) -> tuple[Tensor, Tensor, bool, float]:
    """The smallest x with least ‖forward(x) − b‖, by CGLS (Hestenes and Stiefel, J. Res. NBS 49(6), 1952).

    Every image has step lengths of its own and stands still once it is done, so that none depends on the others.

    Args:
        b: (B, …).
        forward, adjoint: A and Aᵀ.
        done: of ‖r‖², ‖Aᵀ r‖² and an estimate of ‖A‖² from below, each (B,): which images are done, (B,).
        limits: of iterations, one for each image, (B,) int64.

    Returns:
        x; how many iterations each image took, (B,); whether all images were done; the largest ‖r‖/‖b‖ if not.
    """
    residual = b  # r = b − A x, at x = 0
    slope = adjoint(residual)  # Aᵀ r
    x, direction = torch.zeros_like(slope), slope
    left, steep = _squares(residual), _squares(slope)
    norm = torch.zeros_like(left)
    taken = torch.zeros_like(limits)
    while True:
        unfinished = ~done(left, steep, norm)  # (B,); NaN never is done
        going = unfinished & (taken < limits)
        if not bool(going.any()) or not bool(steep.isfinite().all()):
            break
        taken = taken + going
        seen = forward(direction)
        length = torch.where(going, steep / _squares(seen), 0.0)
        norm = torch.where(going, torch.maximum(norm, _squares(seen) / _squares(direction)), norm)
        x = x + _each(length, x) * direction
        residual = residual - _each(length, residual) * seen
        slope = adjoint(residual)
        before, steep = steep, torch.where(going, _squares(slope), steep)
        left = torch.where(going, _squares(residual), left)
        direction = slope + _each(torch.where(going, steep / before, 0.0), slope) * direction
    if not bool(unfinished.any()):
        return x, taken, True, 0.0
    worst = (left / _squares(b)).max().sqrt() if bool(steep.isfinite().all()) else torch.inf
    return x, taken, False, float(worst)


def _squares(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(dim=1)  # (B,)


def _each(numbers: Tensor, like: Tensor) -> Tensor:
    """One number for each image, (B,), shaped to multiply ``like``."""
    return numbers.reshape(-1, *[1] * (like.dim() - 1))

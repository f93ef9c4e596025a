"""Exercises of chapter 14: other measurements, and your own."""

import math
from collections.abc import Callable
from typing import Any

import torch

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require
from idm_lib.operators import LinearOperator

# 14.1 ---------------------------------------------------------------------------------


def shaken_camera(length: int) -> object:
    """Return an operator that averages `length` pixels to the right, round the edge."""
    from idm_lib.operators import LinearOperator, cg_pseudo_inverse

    class Shaken(LinearOperator):
        def A(self, x: torch.Tensor) -> torch.Tensor:
            self.shape = x.shape[1:]
            moved = [x.roll(-i, -1) for i in range(length)]
            return (sum(moved) / length).flatten(1)

        def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
            image = y.reshape(len(y), *self.shape)
            moved = [image.roll(i, -1) for i in range(length)]
            return sum(moved) / length

        def A_dagger(self, y: torch.Tensor) -> torch.Tensor:
            return cg_pseudo_inverse(self, y, 1e-4, 200, strict=False)

    return Shaken()


def _moves_back_the_same_way(length: int) -> Any:
    op = shaken_camera(length)
    op.A_adjoint = lambda y: op.A(y.reshape(len(y), *op.shape)).reshape(
        len(y), *op.shape
    )
    return op


def _takes_the_sum(length: int) -> Any:
    op, right = shaken_camera(length), shaken_camera(length)
    op.A = lambda x: length * right.A(x)
    op.A_adjoint = lambda y: length * right.A_adjoint(y)
    return op


def _check_camera(answer: Callable[..., Any]) -> None:
    x = torch.rand(
        2, 1, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    for length in (2, 5):
        op = answer(length)
        require(
            isinstance(op, LinearOperator),
            "return an object of your own LinearOperator",
        )
        y = op.A(x)
        want = sum(x.roll(-i, -1) for i in range(length)) / length
        require(
            y.shape == (2, 8 * 16) and torch.allclose(y, want.flatten(1)),
            f"A must average {length} pixels, the pixel itself and those to its right, as (B, M)",
        )
        v = torch.rand(
            y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype
        )
        left, right = (y * v).sum(), (x * op.A_adjoint(v)).sum()
        require(
            torch.allclose(left, right),
            f"⟨A x, v⟩ = {left:.4f}, but ⟨x, Aᵀ v⟩ = {right:.4f}: the adjoint moves pixels back",
        )
        seen = op.A(op.A_dagger(y))
        require(
            float((seen - y).norm() / y.norm()) < 1e-2,
            "A A⁺ A x is not A x: give A⁺ to cg_pseudo_inverse",
        )


# 14.2 ---------------------------------------------------------------------------------


def trusted_share(mean_square_residual: float, sigma: float) -> float:
    """Return the share λ of a residual that is worth meeting, between 0 and 1."""
    return max(0.0, 1 - sigma**2 / mean_square_residual)


def _may_be_negative(mean_square_residual: float, sigma: float) -> float:
    return 1 - sigma**2 / mean_square_residual


def _forgets_the_square(mean_square_residual: float, sigma: float) -> float:
    return max(0.0, 1 - sigma / mean_square_residual**0.5)


def _check_share(answer: Callable[..., Any]) -> None:
    for error, sigma in ((0.2, 0.0), (0.2, 0.05), (0.05, 0.05), (0.01, 0.1)):
        total = error**2 + sigma**2
        got, want = float(answer(total, sigma)), error**2 / total
        require(
            abs(got - want) < 1e-9,
            f"an error of {error} under noise of {sigma} gives a mean square residual of "
            f"{total:.4f}; the error's share of it is {want:.3f}, not {got:.3f}",
        )
    require(
        float(answer(0.5 * 0.1**2, 0.1)) == 0,
        "a residual below the noise is no reason to walk away from the measurements",
    )


# 14.3 ---------------------------------------------------------------------------------


def fewest_views(side: int) -> int:
    """Return the least number of views after which CT takes at least side² numbers."""
    detectors = math.ceil(side * 2**0.5)
    return math.ceil(side**2 / detectors)


def _one_detector_a_column(side: int) -> int:
    return side


def _rounds_down(side: int) -> int:
    return side**2 // fewest_detectors(side)


def fewest_detectors(side: int) -> int:
    """Return the number of detectors of a view that sees the whole image."""
    return idm.ParallelBeamCT((side, side), views=1, normalised=False).detectors


def _check_views(answer: Callable[..., Any]) -> None:
    for side in (16, 32, 50):
        got = answer(side)
        require(
            isinstance(got, int) and got > 0,
            "return a whole number of views, at least 1",
        )
        for views, enough in ((got, True), (got - 1, False)):
            total = views * fewest_detectors(side)
            require(
                (total >= side**2) == enough,
                f"{views} views of a {side} × {side} image take {total} numbers for "
                f"{side**2} pixels; a view needs detectors for the image's diagonal",
            )


# 14.4 ---------------------------------------------------------------------------------


def back_from_frequencies(op: object, y: torch.Tensor) -> torch.Tensor:
    """Return A⁺y of single-coil MRI of a real image, given only op.A and op.A_adjoint."""
    from idm_lib.operators import cg_pseudo_inverse

    return cg_pseudo_inverse(op, y, tolerance=1e-6)


def _takes_the_adjoint(op: Any, y: torch.Tensor) -> torch.Tensor:
    return op.A_adjoint(y)


def _doubles_it(op: Any, y: torch.Tensor) -> torch.Tensor:
    return 2 * op.A_adjoint(y)


def _check_back(answer: Callable[..., Any]) -> None:
    x = torch.rand(
        1, 1, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    op = idm.MRI((16, 16), 0.4, seed=3)
    y = op.A(x)
    image = answer(op, y)
    require(
        torch.is_tensor(image) and image.shape == x.shape,
        f"return an image of shape {tuple(x.shape)}",
    )
    unexplained = float((op.A(image) - y).norm() / y.norm())
    require(
        unexplained < 1e-3,
        f"{unexplained:.0%} of y is unexplained: of a real image two frequencies tell the same, "
        "and where the mask holds both, Aᵀ counts them twice",
    )
    smallest = op.A_dagger(y)
    require(
        float((image - smallest).norm() / smallest.norm()) < 1e-3,
        "it explains y, but there is a smaller image that does, too",
    )


EXERCISES = (
    Exercise(
        title="Bring your own operator",
        task="A camera moved while its shutter was open: every pixel is the mean of itself and its neighbours to the "
        "right, `length` in all, and the row closes on itself. Write it as a subclass of `LinearOperator`. Leave "
        "$A^+$ to `cg_pseudo_inverse(self, y, 1e-4, 200, strict=False)`.",
        solution=shaken_camera,
        check=_check_camera,
        hint="`x.roll(-i, -1)` brings the pixel i places to the right to where you are. The adjoint "
        "rolls the other way. `A_adjoint` must know the image's shape: note it in `A`.",
        wrong=(_moves_back_the_same_way, _takes_the_sum),
    ),
    Exercise(
        title="How far to trust",
        task="The residual $y - A\\hat x$ holds the error that $A$ sees and noise of standard deviation `sigma`. You "
        "know its mean square. Which share of it should you correct?",
        solution=trusted_share,
        check=_check_share,
        hint="Error and noise are unrelated, so their mean squares add. The share of the error is what "
        "is left when the noise's is taken away; it is never negative.",
        wrong=(_may_be_negative, _forgets_the_square),
    ),
    Exercise(
        title="As many numbers as pixels",
        task="A view of a square image has as many detectors as its diagonal is long, rounded up. From how many "
        "views on does the scanner take at least as many numbers as the image has pixels?",
        solution=fewest_views,
        check=_check_views,
        hint="`math.ceil(side * 2 ** 0.5)` detectors a view. Round the number of views up, not down.",
        wrong=(_one_detector_a_column, _rounds_down),
    ),
    Exercise(
        title="When the adjoint is not the inverse",
        task="Find the smallest real image that explains single-coil MRI measurements. `op` has `A` and `A_adjoint`; "
        "pretend that it has no `A_dagger`.",
        solution=back_from_frequencies,
        check=_check_back,
        hint="`idm_lib.operators.cg_pseudo_inverse` needs nothing but those two.",
        wrong=(_takes_the_adjoint, _doubles_it),
    ),
)

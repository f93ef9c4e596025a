"""Exercises of chapter 04: DDNM."""

import math
from collections.abc import Callable

import torch

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require
from idm_lib.solvers import ddnm as library_ddnm


def _image(size: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.rand(
        1, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# 04.1 -----------------------------------------------------------------------------------------------------


def inpaint_step(
    guess: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return the range–null-space step for A = "keep pixels where mask is 1", all (B, 1, H, W)."""
    return mask * seen + (1 - mask) * guess


def _keeps_the_guess(
    guess: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    return mask * guess + (1 - mask) * seen


def _adds_both(
    guess: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    return mask * seen + guess


def _averages(
    guess: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    return mask * (seen + guess) / 2 + (1 - mask) * guess


def _check_inpaint(answer: Callable[..., torch.Tensor]) -> None:
    for size, seed in (((6, 5), 0), ((16, 16), 1)):
        guess, truth = _image(size, seed), _image(size, seed + 9)
        mask = (_image(size, seed + 20) > 0.6).double()
        got = answer(guess, mask * truth, mask)
        require(
            getattr(got, "shape", None) == guess.shape,
            f"expected an image of shape {tuple(guess.shape)}.",
        )
        known, unknown = (got - truth)[mask == 1], (got - guess)[mask == 0]
        require(
            float(known.abs().max()) < 1e-9,
            "where the mask is 1, the pixel was measured: the result must show what was seen, exactly.",
        )
        require(
            float(unknown.abs().max()) < 1e-9,
            "where the mask is 0, nothing was measured: the guess must stay as it is.",
        )


# 04.2 -----------------------------------------------------------------------------------------------------


def mse_after_step(mse: float, ratio: float) -> float:
    """Return the expected mse after the range–null-space step, for a guess that owes nothing to the measurements."""
    return (1 - ratio) * mse


def _all_gone(mse: float, ratio: float) -> float:
    return 0.0


def _keeps_the_measured(mse: float, ratio: float) -> float:
    return ratio * mse


def _squares_the_share(mse: float, ratio: float) -> float:
    return (1 - ratio) ** 2 * mse


def _check_mse(answer: Callable[..., float]) -> None:
    for ratio in (0.1, 0.25, 0.5):
        op = idm.BlockCS((64, 64), ratio, seed=3)
        x, guess = _image((64, 64), 1), _image((64, 64), 2)
        before = float((guess - x).square().mean())
        measured = float(
            (guess + op.A_dagger(op.A(x) - op.A(guess)) - x).square().mean()
        )
        got = float(answer(before, op.true_ratio))
        require(
            abs(got - measured) < 0.05 * measured,
            f"at γ = {op.true_ratio:.2f} an mse of {before:.4f} becomes {measured:.4f} (tried on random images); "
            f"yours says {got:.4f}. What share of all directions does A see?",
        )
    require(
        float(answer(0.2, 1.0)) < 1e-12,
        "at γ = 1 everything is measured, and no error is left.",
    )


# 04.3 -----------------------------------------------------------------------------------------------------


def ddnm(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    y: torch.Tensor,
    op: idm.LinearOperator,
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    """Run DDNM without fresh noise (η = 0) from ``noisy`` at sigmas[-1] down to sigmas[0] = 0."""
    for t in range(len(sigmas) - 1, 0, -1):
        guess = denoise(noisy, sigmas[t])
        epsilon = (noisy - guess) / sigmas[t]
        clean = guess - op.A_dagger(op.A(guess) - y)
        noisy = clean + sigmas[t - 1] * epsilon
    return noisy


def _never_looks_at_y(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    y: torch.Tensor,
    op: idm.LinearOperator,
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    for t in range(len(sigmas) - 1, 0, -1):
        guess = denoise(noisy, sigmas[t])
        noisy = guess + sigmas[t - 1] * (noisy - guess) / sigmas[t]
    return noisy


def _noise_after_the_step(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    y: torch.Tensor,
    op: idm.LinearOperator,
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    for t in range(len(sigmas) - 1, 0, -1):
        guess = denoise(noisy, sigmas[t])
        clean = guess - op.A_dagger(op.A(guess) - y)
        noisy = clean + sigmas[t - 1] * (noisy - clean) / sigmas[t]
    return noisy


def _projects_only_at_the_end(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    y: torch.Tensor,
    op: idm.LinearOperator,
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    noisy = _never_looks_at_y(denoise, y, op, noisy, sigmas)
    return noisy - op.A_dagger(op.A(noisy) - y)


def _blur(noisy: torch.Tensor, sigma: float) -> torch.Tensor:
    weight = sigma**2 / (1 + sigma**2)
    around = (
        noisy.roll(1, -1) + noisy.roll(-1, -1) + noisy.roll(1, -2) + noisy.roll(-1, -2)
    ) / 4
    return (1 - weight) * noisy + weight * around


def _check_ddnm(answer: Callable[..., torch.Tensor]) -> None:
    for size, ratio, levels in (((16, 16), 0.3, 6), ((24, 20), 0.1, 3)):
        op = idm.BlockCS(size, ratio, seed=1)
        y = op.A(_image(size, 4))
        ladder = [0.0, *torch.logspace(-2, 0, levels, dtype=torch.float64).tolist()]
        noise = torch.randn((1, 1, *size), generator=torch.Generator().manual_seed(0))
        start = 0.5 + ladder[-1] * noise.double()
        right = library_ddnm(
            y,
            op,
            _blur,
            iterations=levels,
            seed=0,
            eta=0.0,
            sigma_max=1.0,
            sigma_min=0.01,
        ).image
        got = answer(_blur, y, op, start.clone(), ladder)
        require(
            getattr(got, "shape", None) == right.shape,
            f"expected an image of shape {tuple(right.shape)}.",
        )
        require(
            float((op.A(got) - y).norm() / y.norm()) < 1e-6,
            "the result does not explain the measurements: correct the guess by A⁺(A guess − y) in every step.",
        )
        require(
            torch.allclose(got, right, atol=1e-6),
            "the result explains y, but is not DDNM's. Correct the guess in every step, and take the noise ε "
            "from the guess as it was before the correction.",
        )


# 04.4 -----------------------------------------------------------------------------------------------------


def noise_level(
    estimate: torch.Tensor, y: torch.Tensor, op: idm.LinearOperator, ratio: float
) -> float:
    """Return τ, the noise level of estimate + Aᵀ(y − A estimate)/γ, from the measurements alone."""
    mse = float((y - op.A(estimate)).square().mean())
    return math.sqrt((1 - ratio) / ratio * mse)


def _returns_the_error(
    estimate: torch.Tensor, y: torch.Tensor, op: idm.LinearOperator, ratio: float
) -> float:
    return math.sqrt(float((y - op.A(estimate)).square().mean()))


def _forgets_the_root(
    estimate: torch.Tensor, y: torch.Tensor, op: idm.LinearOperator, ratio: float
) -> float:
    return (1 - ratio) / ratio * float((y - op.A(estimate)).square().mean())


def _sums(
    estimate: torch.Tensor, y: torch.Tensor, op: idm.LinearOperator, ratio: float
) -> float:
    return math.sqrt((1 - ratio) / ratio * float((y - op.A(estimate)).square().sum()))


def _check_level(answer: Callable[..., float]) -> None:
    for ratio, seed in ((0.1, 0), (0.3, 1), (0.5, 2)):
        op = idm.BlockCS((96, 96), ratio, seed=seed)
        x, estimate = _image((96, 96), seed), 0.5 + 0.1 * _image((96, 96), seed + 5)
        y = op.A(x)
        r = estimate + op.A_adjoint(y - op.A(estimate)) / op.true_ratio
        true = float((r - x).square().mean().sqrt())
        got = float(answer(estimate, y, op, op.true_ratio))
        require(
            abs(got / true - 1) < 0.06,
            f"at γ = {op.true_ratio:.2f} the noise has level {true:.3f} (measured with the truth at hand); "
            f"yours says {got:.3f}. τ² is (1 − γ)/γ times the mse of the estimate, which the mean square of "
            "y − A x̂ reveals.",
        )


# 04.5 -----------------------------------------------------------------------------------------------------


def whiteness(error: torch.Tensor) -> float:
    """Return the correlation of an error image (1, 1, H, W) with itself one pixel to the right, −1 to 1."""
    left, right = error[..., :-1], error[..., 1:]
    left, right = left - left.mean(), right - right.mean()
    return float((left * right).sum() / (left.norm() * right.norm()))


def _covariance(error: torch.Tensor) -> float:
    return float((error[..., :-1] * error[..., 1:]).mean())


def _forgets_the_mean(error: torch.Tensor) -> float:
    left, right = error[..., :-1], error[..., 1:]
    return float((left * right).sum() / (left.norm() * right.norm()))


def _looks_down(error: torch.Tensor) -> float:
    above, below = error[..., :-1, :], error[..., 1:, :]
    above, below = above - above.mean(), below - below.mean()
    return float((above * below).sum() / (above.norm() * below.norm()))


def _check_white(answer: Callable[..., float]) -> None:
    noise = torch.randn(
        1, 1, 80, 80, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    smooth = (noise + noise.roll(1, -1)) / 2
    cases = (
        (noise, "white noise"),
        (5 * smooth, "noise that was smoothed from left to right"),
        (noise + 3, "white noise around a mean of 3"),
        (
            noise.roll(1, -1) + noise.roll(1, -2) * 2 + noise,
            "noise that was smoothed in both directions",
        ),
    )
    for error, name in cases:
        right, got = whiteness(error), float(answer(error))
        require(
            abs(got - right) < 0.01,
            f"for {name} the correlation is {right:.2f}, yours is {got:.2f}.",
        )


EXERCISES = (
    Exercise(
        title="Fill in the holes",
        task=(
            "The step works for every operator. Suppose that $A$ keeps the pixels where a mask is 1 and drops the "
            "rest (inpainting). Write the range–null-space step; no matrix is needed."
        ),
        solution=inpaint_step,
        check=_check_inpaint,
        hint="What is the range part of an image here, and what the null-space part? Take one from each.",
        wrong=(_keeps_the_guess, _adds_both, _averages),
    ),
    Exercise(
        title="What one step buys",
        task=(
            "A guess has mean square error `mse` and owes nothing to the measurements. What is its expected error "
            "after the range–null-space step, if $A$ has random orthonormal rows and ratio $\\gamma$?"
        ),
        solution=mse_after_step,
        check=_check_mse,
        hint="The error splits into what A sees and what it does not. The step removes the first part.",
        wrong=(_all_gone, _keeps_the_measured, _squares_the_share),
    ),
    Exercise(
        title="Write DDNM",
        task=(
            "From memory: DDNM without fresh noise. The denoiser, the measurements, the operator, the start and the "
            "ladder are given. Take care from *which* estimate you compute the noise."
        ),
        solution=ddnm,
        check=_check_ddnm,
        hint="Chapter 03's sampler, and one line more. The noise is what the denoiser found, not what A corrected.",
        wrong=(_never_looks_at_y, _noise_after_the_step, _projects_only_at_the_end),
    ),
    Exercise(
        title="The truth without the truth",
        task=(
            "You cannot compute the error of an estimate $\\hat x$ without the image. But you can for a random "
            "sample of it: the residual $y - A\\hat x$. Return the noise level $\\tau$ of "
            "$r = \\hat x + A^\\top(y - A\\hat x)/\\gamma$."
        ),
        solution=noise_level,
        check=_check_level,
        hint="τ² = (1 − γ)/γ · mse, and each row of A takes a random sample, of unit length, of the error.",
        wrong=(_returns_the_error, _forgets_the_root, _sums),
    ),
    Exercise(
        title="Is it white?",
        task=(
            "A denoiser is trained on noise whose pixels know nothing of each other. Write the simplest test of "
            "that: the correlation coefficient between each pixel of an error image and its right neighbour."
        ),
        solution=whiteness,
        check=_check_white,
        hint="Two overlapping crops. Subtract from each its mean, then the cosine between them.",
        wrong=(_covariance, _forgets_the_mean, _looks_down),
    ),
)

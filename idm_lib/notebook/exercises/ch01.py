"""Exercises of chapter 01: measuring."""

import math
from collections.abc import Callable

import torch

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require


def _random_image(size: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.rand(
        1, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# 01.1 -----------------------------------------------------------------------------------------------------


def count_measurements(height: int, width: int, ratio: float) -> int:
    """Return M for a height × width image in blocks of 1024 pixels."""
    blocks, rest = divmod(height * width, 1024)
    per_block = math.ceil(ratio * 1024 - 1e-9)
    in_last_block = math.ceil(ratio * rest - 1e-9)
    return blocks * per_block + in_last_block


def _rounds_to_nearest(height: int, width: int, ratio: float) -> int:
    blocks, rest = divmod(height * width, 1024)
    return blocks * round(ratio * 1024) + round(ratio * rest)


def _pads_the_last_block(height: int, width: int, ratio: float) -> int:
    return math.ceil(height * width / 1024) * math.ceil(ratio * 1024 - 1e-9)


def _check_count(answer: Callable[..., int]) -> None:
    got = answer(32, 32, 0.1)
    require(
        got == 103,
        f"one full block at γ = 0.1 needs ⌈102.4⌉ rows, yours gives {got}: round up, not to nearest.",
    )
    got = answer(37, 95, 0.3)
    require(
        got != 4 * 308,
        "the last block has fewer pixels than the others: do not fill it up with zeros.",
    )
    for size in ((37, 95), (256, 256), (1, 1), (100, 7)):
        for ratio in (0.01, 0.1, 0.3, 0.5, 1.0):
            right = idm.BlockCS(size, ratio).measurements
            got = answer(*size, ratio)
            require(
                got == right,
                f"for {size[0]} × {size[1]} at γ = {ratio} M is {right}, yours gives {got}.",
            )


# 01.2 -----------------------------------------------------------------------------------------------------


def unshuffle(pixels: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Undo ``pixels = original[order]``: return ``original``, shape (n,)."""
    original = torch.empty_like(pixels)
    original[order] = pixels
    return original


def _shuffles_again(pixels: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return pixels[order]


def _sorts_values(pixels: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return pixels.sort().values


def _check_unshuffle(answer: Callable[..., torch.Tensor]) -> None:
    for size, seed in ((7, 0), (100, 1), (1024, 2)):
        generator = torch.Generator().manual_seed(seed)
        original = torch.rand(size, generator=generator)
        order = torch.randperm(size, generator=generator)
        got = answer(original[order], order)
        require(
            getattr(got, "shape", None) == original.shape,
            f"expected a tensor of shape ({size},).",
        )
        again = torch.equal(got, original[order][order])
        require(
            not again,
            "you shuffled a second time; the inverse puts each pixel back where `order` took it from.",
        )
        require(
            torch.equal(got, original),
            f"with {size} pixels they are not all back in their own places.",
        )


# 01.3 -----------------------------------------------------------------------------------------------------


def dot_gap(
    forward: Callable[[torch.Tensor], torch.Tensor],
    adjoint: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
) -> float:
    """Return |⟨forward(x), y⟩ − ⟨x, adjoint(y)⟩|, divided by ‖forward(x)‖·‖y‖."""
    measured = forward(x)
    gap = (measured * y).sum() - (x * adjoint(y)).sum()
    return float(gap.abs() / (measured.norm() * y.norm()))


def _forgets_to_divide(
    forward: Callable[[torch.Tensor], torch.Tensor],
    adjoint: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
) -> float:
    return float(((forward(x) * y).sum() - (x * adjoint(y)).sum()).abs())


def _compares_round_trip(
    forward: Callable[[torch.Tensor], torch.Tensor],
    adjoint: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
) -> float:
    return float((forward(adjoint(y)) - y).norm() / y.norm())


def _check_dot(answer: Callable[..., float]) -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((3, 5), (8, 8), (20, 4)):
        matrix = torch.randn(rows, columns, dtype=torch.float64, generator=generator)
        x = torch.randn(columns, dtype=torch.float64, generator=generator)
        y = torch.randn(rows, dtype=torch.float64, generator=generator)
        gap = answer(lambda v, m=matrix: m @ v, lambda v, m=matrix: m.T @ v, x, y)
        require(
            float(gap) < 1e-12,
            f"the gap of a matrix and its transpose should vanish; got {float(gap):.2g}.",
        )
        wrong = answer(
            lambda v, m=matrix: m @ v, lambda v, m=matrix: 2 * (m.T @ v), x, y
        )
        right = float(((matrix @ x) @ y).abs() / ((matrix @ x).norm() * y.norm()))
        message = "an adjoint that is twice too large should be caught, with the gap relative to ‖forward(x)‖·‖y‖"
        require(
            abs(float(wrong) - right) < 1e-9,
            f"{message}: expected {right:.3g}, yours is {float(wrong):.3g}.",
        )


# 01.4 -----------------------------------------------------------------------------------------------------


def impostor(op: idm.LinearOperator, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return the image closest to z among those with the measurements of x."""
    return z + op.A_dagger(op.A(x) - op.A(z))


def _adds_the_wrong_way(
    op: idm.LinearOperator, x: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    return x + op.A_dagger(op.A(z) - op.A(x))


def _averages(op: idm.LinearOperator, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return (x + z) / 2


def _returns_x(
    op: idm.LinearOperator, x: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    return x


def _check_impostor(answer: Callable[..., torch.Tensor]) -> None:
    for size, ratio, seed in (((40, 30), 0.1, 0), ((64, 64), 0.5, 2)):
        op = idm.BlockCS(size, ratio, seed=seed)
        x, z = _random_image(size, seed), _random_image(size, seed + 1)
        got = answer(op, x, z)
        require(
            getattr(got, "shape", None) == x.shape,
            f"expected an image of shape {tuple(x.shape)}.",
        )
        miss = float((op.A(got) - op.A(x)).norm() / op.A(x).norm())
        require(
            miss < 1e-6,
            f"its measurements differ from those of x by {miss:.0%}: they must be equal.",
        )
        unseen = float(
            (op.null_projection(got) - op.null_projection(z)).norm()
            / op.null_projection(z).norm()
        )
        require(
            unseen < 1e-6,
            "its measurements are right, but the part that A does not see is not the one of z.",
        )


# 01.5 -----------------------------------------------------------------------------------------------------


def noise_after_inverse(op: idm.LinearOperator, sigma: float) -> float:
    """Return the noise per pixel of A_dagger(y) when y has noise of level sigma."""
    return sigma * math.sqrt(op.true_ratio)


def _forgets_the_root(op: idm.LinearOperator, sigma: float) -> float:
    return sigma * op.true_ratio


def _passes_sigma_on(op: idm.LinearOperator, sigma: float) -> float:
    return sigma


def _check_noise(answer: Callable[..., float]) -> None:
    for size, ratio, sigma in (
        ((32, 32), 0.25, 1.0),
        ((64, 48), 0.1, 0.05),
        ((37, 95), 0.5, 0.2),
    ):
        op = idm.BlockCS(size, ratio)
        right, got = sigma * math.sqrt(op.true_ratio), float(answer(op, sigma))
        require(
            abs(got - right) < 1e-9 * right,
            f"at γ = {ratio} and σ = {sigma} noise of {right:.4f} per pixel was expected, yours is {got:.4f}. "
            "A⁺ keeps the length of the noise but spreads its M numbers over all H·W pixels.",
        )


# 01.6 -----------------------------------------------------------------------------------------------------


def keep_largest(coefficients: torch.Tensor, fraction: float) -> torch.Tensor:
    """Return the coefficients with only the largest fraction kept, the rest zero."""
    kept = max(1, round(fraction * coefficients.numel()))
    threshold = coefficients.abs().flatten().topk(kept).values[-1]
    return torch.where(
        coefficients.abs() >= threshold, coefficients, torch.zeros_like(coefficients)
    )


def _ignores_the_sign(coefficients: torch.Tensor, fraction: float) -> torch.Tensor:
    kept = max(1, round(fraction * coefficients.numel()))
    threshold = coefficients.flatten().topk(kept).values[-1]
    return torch.where(
        coefficients >= threshold, coefficients, torch.zeros_like(coefficients)
    )


def _keeps_the_first(coefficients: torch.Tensor, fraction: float) -> torch.Tensor:
    kept = max(1, round(fraction * coefficients.numel()))
    flat = coefficients.flatten().clone()
    flat[kept:] = 0
    return flat.reshape(coefficients.shape)


def _check_keep(answer: Callable[..., torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(5)
    for shape, fraction in (((20, 30), 0.1), ((64,), 0.5), ((8, 8), 0.25)):
        values = torch.randn(shape, generator=generator)
        got = answer(values.clone(), fraction)
        require(
            getattr(got, "shape", None) == values.shape,
            f"expected a tensor of shape {shape}.",
        )
        kept, right = int((got != 0).sum()), round(fraction * values.numel())
        require(
            kept == right,
            f"at a fraction of {fraction} of {values.numel()}, {right} should stay; {kept} did.",
        )
        largest = values.abs().flatten().sort(descending=True).values[:right].sum()
        require(
            abs(float(got.abs().sum() - largest)) < 1e-3,
            "the right number of coefficients stays, but not the largest: negative ones count by their magnitude.",
        )
        require(
            bool(((got == values) | (got == 0)).all()),
            "the coefficients that stay must not change.",
        )


EXERCISES = (
    Exercise(
        title="Count the measurements",
        task=(
            "How many numbers does `BlockCS` take of an image? Its pixels are cut into blocks of $N = 1024$; the "
            "last block may be smaller, with $n'$ pixels. A block of $n$ pixels is measured by "
            "$\\lceil \\gamma n \\rceil$ rows. Subtract `1e-9` before you round up, so that a product such as "
            "`0.1 * 1000`, which a computer cannot represent exactly, is not rounded one too far."
        ),
        solution=count_measurements,
        check=_check_count,
        hint="`divmod(height * width, 1024)` gives the number of full blocks and the pixels that are left over.",
        wrong=(_rounds_to_nearest, _pads_the_last_block),
    ),
    Exercise(
        title="Undo the shuffle",
        task=(
            "The adjoint of `BlockCS` must bring every pixel home. Given shuffled pixels and the order in which they "
            "were taken, return them in their original places."
        ),
        solution=unshuffle,
        check=_check_unshuffle,
        hint="Indexing also works on the left of `=`. Or use `torch.argsort(order)`.",
        wrong=(_shuffles_again, _sorts_values),
    ),
    Exercise(
        title="Write the dot test",
        task=(
            "Write the test that finds a wrong adjoint for you, so that you can use it on operators of your own. "
            "`forward` and `adjoint` are functions; `x` and `y` are vectors of the right lengths."
        ),
        solution=dot_gap,
        check=_check_dot,
        hint="Two inner products, `(a * b).sum()`, that should be equal. Divide the gap by what sets its scale.",
        wrong=(_forgets_to_divide, _compares_round_trip),
    ),
    Exercise(
        title="Make an impostor",
        task=(
            "Given two images $x$ and $z$, build the image that looks as much like $z$ as possible but that the "
            "operator cannot tell from $x$. This one line, with $y$ in place of $Ax$, returns again and again: it "
            "is the data-consistency step of DDNM and of IDM."
        ),
        solution=impostor,
        check=_check_impostor,
        hint="Start at $z$. How far are its measurements from those of $x$? Correct just that, through $A^+$.",
        wrong=(_adds_the_wrong_way, _averages, _returns_x),
    ),
    Exercise(
        title="Predict the noise",
        task=(
            "Each measurement carries independent Gaussian noise of standard deviation $\\sigma$. What is the "
            "standard deviation of the error that this causes in a pixel of $A^+y$, on average over the pixels?"
        ),
        solution=noise_after_inverse,
        check=_check_noise,
        hint="Orthonormal rows keep lengths: ‖A⁺n‖ = ‖n‖. Write both sides as a number of entries times a variance.",
        wrong=(_forgets_the_root, _passes_sigma_on),
    ),
    Exercise(
        title="Keep the largest",
        task=(
            "Compressibility in one function: keep a given fraction of the coefficients, the largest in magnitude, "
            "and set the others to zero. Keep at least one; round the number to the nearest whole one."
        ),
        solution=keep_largest,
        check=_check_keep,
        hint="`coefficients.abs().flatten().topk(kept)` finds the largest; the last of them is your threshold.",
        wrong=(_ignores_the_sign, _keeps_the_first),
    ),
)

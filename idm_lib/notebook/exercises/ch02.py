"""Exercises of chapter 02: reconstructing without learning."""

import math
from collections.abc import Callable

import torch

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# 02.1 ---------------------------------------------------------------------------------


def soft_positive(r: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return, for each number r, the w ≥ 0 that makes (w − r)²/2 + threshold·w smallest."""
    return (r - threshold).clamp_min(0)


def _keeps_negatives(r: torch.Tensor, threshold: float) -> torch.Tensor:
    return r.sign() * (r.abs() - threshold).clamp_min(0)


def _mirrors_negatives(r: torch.Tensor, threshold: float) -> torch.Tensor:
    return (r.abs() - threshold).clamp_min(0)


def _hard(r: torch.Tensor, threshold: float) -> torch.Tensor:
    return torch.where(r > threshold, r, torch.zeros_like(r))


def _check_soft_positive(answer: Callable[..., torch.Tensor]) -> None:
    grid = torch.linspace(
        0, 4, 4001, dtype=torch.float64
    )  # every candidate w, 0.001 apart
    for threshold, seed in ((0.5, 0), (0.1, 1), (1.3, 2)):
        r = 1.2 * torch.randn(60, generator=_generator(seed), dtype=torch.float64)
        cost = (grid[None] - r[:, None]).square() / 2 + threshold * grid[
            None
        ]  # (60, 4001)
        best = grid[cost.argmin(dim=1)]
        got = answer(r, threshold)
        require(
            getattr(got, "shape", None) == r.shape,
            f"expected {len(r)} numbers, as many as in r.",
        )
        require(
            float(got.min()) >= 0,
            "some of your answers are negative; only w ≥ 0 is allowed.",
        )
        worst = int((got - best).abs().argmax())
        require(
            float((got - best).abs().max()) < 2e-3,
            f"for r = {float(r[worst]):.3f} and a threshold of {threshold} the best w is {float(best[worst]):.3f}, "
            f"yours is {float(got[worst]):.3f}.",
        )


# 02.2 ---------------------------------------------------------------------------------


def fista(R: torch.Tensor, z: torch.Tensor, lam: float, steps: int) -> torch.Tensor:
    """Return w after the given steps of accelerated ISTA, started at zero; R is (M, n)."""
    w = ahead = torch.zeros(R.shape[1], dtype=R.dtype)
    t = 1.0
    for _ in range(steps):
        before = w
        r = ahead + R.T @ (z - R @ ahead)
        w = r.sign() * (r.abs() - lam).clamp_min(0)
        t_next = (1 + math.sqrt(1 + 4 * t**2)) / 2
        ahead = w + (t - 1) / t_next * (w - before)
        t = t_next
    return w


def _without_momentum(
    R: torch.Tensor, z: torch.Tensor, lam: float, steps: int
) -> torch.Tensor:
    w = torch.zeros(R.shape[1], dtype=R.dtype)
    for _ in range(steps):
        r = w + R.T @ (z - R @ w)
        w = r.sign() * (r.abs() - lam).clamp_min(0)
    return w


def _without_threshold(
    R: torch.Tensor, z: torch.Tensor, lam: float, steps: int
) -> torch.Tensor:
    return R.T @ z


def _check_fista(answer: Callable[..., torch.Tensor]) -> None:
    for rows, size, seed in ((40, 160, 0), (30, 100, 1)):
        gaussian = torch.randn(
            size, size, generator=_generator(seed), dtype=torch.float64
        )
        matrix = torch.linalg.qr(gaussian)[0][:rows]
        w = torch.zeros(size, dtype=torch.float64)
        w[:8] = torch.randn(8, generator=_generator(seed + 5), dtype=torch.float64)
        z, lam, steps = matrix @ w, 0.01, 60

        def price(
            w: torch.Tensor,
            matrix: torch.Tensor = matrix,
            z: torch.Tensor = z,
            lam: float = lam,
        ) -> float:
            return float((z - matrix @ w).square().sum() / 2 + lam * w.abs().sum())

        got = answer(matrix, z, lam, steps)
        require(
            getattr(got, "shape", None) == w.shape,
            f"expected {size} numbers, one for each column of R.",
        )
        optimum = price(fista(matrix, z, lam, 3000))
        slow = price(_without_momentum(matrix, z, lam, steps)) - optimum
        over = price(got) - optimum
        require(
            over < slow / 3,
            f"after {steps} steps the price is {over:.2g} above the lowest, and ISTA's {slow:.2g}. "
            "Momentum should bring it well below: take the gradient at the point ahead, not at w.",
        )
        right = fista(matrix, z, lam, 5)
        require(
            float((answer(matrix, z, lam, 5) - right).abs().max()) < 1e-9,
            "it is fast, but after five steps w differs from FISTA's: check the sequence of t.",
        )


# 02.3 ---------------------------------------------------------------------------------


def noise_level(
    y: torch.Tensor, estimate: torch.Tensor, op: idm.LinearOperator
) -> float:
    """Return τ, the level of the noise in r, from the measurements and the estimate alone."""
    mse = (y - op.A(estimate)).square().mean()
    gamma = op.true_ratio
    return float(((1 - gamma) / gamma * mse).sqrt())


def _forgets_the_missing(
    y: torch.Tensor, estimate: torch.Tensor, op: idm.LinearOperator
) -> float:
    return float(((y - op.A(estimate)).square().mean() / op.true_ratio).sqrt())


def _sums_over_pixels(
    y: torch.Tensor, estimate: torch.Tensor, op: idm.LinearOperator
) -> float:
    gamma = op.true_ratio
    mse = (y - op.A(estimate)).square().sum() / estimate.numel()
    return float(((1 - gamma) / gamma * mse).sqrt())


def _forgets_the_root(
    y: torch.Tensor, estimate: torch.Tensor, op: idm.LinearOperator
) -> float:
    return noise_level(y, estimate, op) ** 2


def _check_noise_level(answer: Callable[..., float]) -> None:
    for size, ratio, seed in (
        ((64, 64), 0.1, 0),
        ((96, 64), 0.5, 1),
        ((64, 96), 0.3, 2),
    ):
        op = idm.BlockCS(size, ratio, seed=seed)
        x = torch.rand(1, 1, *size, generator=_generator(seed), dtype=torch.float64)
        estimate = x + 0.1 * torch.randn(
            x.shape, generator=_generator(seed + 9), dtype=torch.float64
        )
        y = op.A(x)
        r = estimate + op.A_adjoint(y - op.A(estimate)) / op.true_ratio
        true, right = float((r - x).std()), noise_level(y, estimate, op)
        got = float(answer(y, estimate, op))
        require(
            abs(got - right) < 1e-9,
            f"at γ = {ratio} the noise in r has a standard deviation of {true:.3f}; from y alone one gets "
            f"{right:.3f}, yours is {got:.3f}. The mean square of y − A x̂ estimates that of the error.",
        )


# 02.4 ---------------------------------------------------------------------------------


def copied_by_blur(kernel: torch.Tensor) -> float:
    """Return d, the share of its input that convolution with a kernel (k, k), k odd, copies."""
    middle = kernel.shape[0] // 2
    return float(kernel[middle, middle])


def _sum_of_kernel(kernel: torch.Tensor) -> float:
    return float(kernel.sum())


def _energy_of_kernel(kernel: torch.Tensor) -> float:
    return float(kernel.square().sum())


def _check_blur(answer: Callable[..., float]) -> None:
    for side, seed in ((3, 0), (5, 1), (7, 2)):
        kernel = torch.rand(side, side, generator=_generator(seed), dtype=torch.float64)
        kernel = kernel / kernel.sum()
        coins = torch.randn(
            1, 1, 200, 200, generator=_generator(seed + 3), dtype=torch.float64
        ).sign()
        blurred = torch.nn.functional.conv2d(
            coins, kernel[None, None], padding=side // 2
        )
        probed = float((blurred * coins).mean())
        got, right = float(answer(kernel)), copied_by_blur(kernel)
        require(
            abs(got - right) < 1e-9,
            f"a random probe of this {side} × {side} blur says about {probed:.3f}, you say {got:.3f}. "
            "How much does an output pixel change when its own input pixel, and no other, is pushed?",
        )


# 02.5 ---------------------------------------------------------------------------------


def where_it_ends(curve: Callable[[float], float], gamma: float, mse: float) -> float:
    """Return the denoiser's error after 200 iterations of state evolution, from a start mse."""
    for _ in range(200):
        variance = (1 - gamma) / gamma * mse
        denoised = curve(math.sqrt(variance))
        mse = 1 / (1 / denoised - 1 / variance)
    return denoised


def _without_correction(
    curve: Callable[[float], float], gamma: float, mse: float
) -> float:
    for _ in range(200):
        mse = curve(math.sqrt((1 - gamma) / gamma * mse))
    return mse


def _tells_the_variance(
    curve: Callable[[float], float], gamma: float, mse: float
) -> float:
    for _ in range(200):
        variance = (1 - gamma) / gamma * mse
        denoised = curve(variance)
        mse = 1 / (1 / denoised - 1 / variance)
    return denoised


def _check_end(answer: Callable[..., float]) -> None:
    for energy, floor, gamma in (
        (0.06, 0.001, 0.1),
        (0.04, 0.002, 0.3),
        (0.1, 0.0005, 0.05),
    ):

        def curve(tau: float, energy: float = energy, floor: float = floor) -> float:
            return tau**2 * (0.1 * energy + floor) / (tau**2 + 0.1 * energy + floor)

        right = where_it_ends(curve, gamma, energy)
        got = float(answer(curve, gamma, energy))
        require(
            abs(got - right) < 1e-6 * right,
            f"at γ = {gamma} the course ends at an error of {right:.3g}, yours at {got:.3g}. The curve takes τ, "
            "not τ²; and remember the correction: 1/m′ = 1/m − 1/τ².",
        )


# 02.6 ---------------------------------------------------------------------------------


def how_many_to_hold_back(half_width: float) -> int:
    """Return the fewest measurements K whose 95 % interval is about ± half_width dB."""
    in_decibels = 1.96 * 10 / math.log(10)  # of a relative error of one
    return math.ceil(2 * (in_decibels / half_width) ** 2)


def _forgets_the_two(half_width: float) -> int:
    return math.ceil((1.96 * 10 / math.log(10) / half_width) ** 2)


def _amplitude_decibels(half_width: float) -> int:
    return math.ceil(2 * (1.96 * 20 / math.log(10) / half_width) ** 2)


def _check_hold(answer: Callable[..., int]) -> None:
    for half_width in (1.0, 0.5, 0.25, 0.1):
        right, got = how_many_to_hold_back(half_width), answer(half_width)
        samples = (
            torch.randn(500, right, generator=_generator(0), dtype=torch.float64)
            .square()
            .mean(dim=1)
        )
        spread = 1.96 * float((10 * samples.log10()).std())
        require(
            abs(got - right) <= 1,
            f"for ± {half_width} dB about {right} are needed (tried: their means scatter by ± {spread:.2f} dB); "
            f"you say {got}. The mean of K squares scatters by √(2/K) of itself.",
        )


EXERCISES = (
    Exercise(
        title="Sparse and never negative",
        task=(
            "Light cannot be negative. If you know that all $w \\ge 0$, the proximal step changes: for each number "
            "$r$, find the $w \\ge 0$ that makes $\\tfrac12 (w - r)^2 + \\lambda w$ smallest."
        ),
        solution=soft_positive,
        check=_check_soft_positive,
        hint="Set the derivative to zero. If the answer is negative, the closest allowed value is better.",
        wrong=(_keeps_negatives, _mirrors_negatives, _hard),
    ),
    Exercise(
        title="Momentum",
        task=(
            "Accelerate ISTA. Take its step not from $w$ but from a point ahead, "
            "$w + \\frac{t-1}{t'}(w - w_\\text{before})$, where $t = 1$ at first and "
            "$t' = (1 + \\sqrt{1 + 4 t^2})/2$ is the next $t$. This is FISTA, and what the library's `tv` does."
        ),
        solution=fista,
        check=_check_fista,
        hint="Keep three things from step to step: w, the point ahead, and t. The step itself is ISTA's.",
        wrong=(_without_momentum, _without_threshold),
    ),
    Exercise(
        title="Know your noise",
        task=(
            "Return $\\tau$, the standard deviation of the noise in $r$, without the photograph: estimate "
            "$\\operatorname{mean}(e^2)$ from the residual $y - A\\hat x$ and use the formula for $\\tau^2$."
        ),
        solution=noise_level,
        check=_check_noise_level,
        hint="The mean is over the M measurements: each is a random sample of the error. γ is `op.true_ratio`.",
        wrong=(_forgets_the_missing, _sums_over_pixels, _forgets_the_root),
    ),
    Exercise(
        title="What a blur copies",
        task=(
            "The simplest denoiser is a blur: convolution with a $k \\times k$ kernel of weights that add up to one. "
            "Which share $d$ of its input does it copy? No probe is needed."
        ),
        solution=copied_by_blur,
        check=_check_blur,
        hint="d is the mean of ∂(output pixel)/∂(the same input pixel). Which weight multiplies that pixel?",
        wrong=(_sum_of_kernel, _energy_of_kernel),
    ),
    Exercise(
        title="Where the loop ends",
        task=(
            "Write state evolution and run it for 200 iterations. `curve(tau)` is the denoiser's error at a noise "
            "level $\\tau$; `mse` is the error of the first estimate. Return the denoiser's error at the end."
        ),
        solution=where_it_ends,
        check=_check_end,
        hint="Three lines in a loop: τ² from the error, the denoiser's error from τ, the corrected error from both.",
        wrong=(_without_correction, _tells_the_variance),
    ),
    Exercise(
        title="How many to hold back?",
        task=(
            "The mean of $K$ squared Gaussian numbers scatters by $\\sqrt{2/K}$ of itself, and 95 % of the cases lie "
            "within 1.96 times that. How large must $K$ be for an interval of about ± `half_width` decibels? Small "
            "relative changes $\\delta$ of a squared error are $\\frac{10}{\\ln 10}\\,\\delta$ decibels."
        ),
        solution=how_many_to_hold_back,
        check=_check_hold,
        hint="Solve 1.96 · √(2/K) · 10/ln 10 = half_width for K, and round up.",
        wrong=(_forgets_the_two, _amplitude_decibels),
    ),
)

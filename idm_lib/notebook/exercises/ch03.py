"""Exercises of chapter 03: diffusion."""

import math
from collections.abc import Callable

import torch

from idm_lib.notebook.exercise import Exercise, require


def _gaussian(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


# 03.1 -----------------------------------------------------------------------------------------------------


def binary_denoiser(noisy: torch.Tensor, sigma: float, share: float) -> torch.Tensor:
    """Return E[x | noisy] where x is 1 with probability ``share``, else 0; same shape as ``noisy``."""
    white = share * torch.exp(-((noisy - 1) ** 2) / (2 * sigma**2))
    black = (1 - share) * torch.exp(-(noisy**2) / (2 * sigma**2))
    return white / (white + black)


def _picks_the_nearest(noisy: torch.Tensor, sigma: float, share: float) -> torch.Tensor:
    return (noisy > 0.5).to(noisy)


def _forgets_the_share(noisy: torch.Tensor, sigma: float, share: float) -> torch.Tensor:
    return torch.sigmoid((2 * noisy - 1) / (2 * sigma**2))


def _forgets_the_two(noisy: torch.Tensor, sigma: float, share: float) -> torch.Tensor:
    return torch.sigmoid(math.log(share / (1 - share)) + (2 * noisy - 1) / sigma**2)


def _check_binary(answer: Callable[..., torch.Tensor]) -> None:
    noisy = torch.linspace(-1, 2, 31, dtype=torch.float64)
    got = answer(noisy.clone(), 0.5, 0.5)
    require(
        getattr(got, "shape", None) == noisy.shape,
        "expected one estimate for each noisy value.",
    )
    require(
        bool(((got - got.round()).abs() > 1e-3).any()),
        "yours is always exactly 0 or 1; the mean of what is possible lies in between when you cannot be sure.",
    )
    require(
        abs(float(answer(torch.tensor([0.5], dtype=torch.float64), 0.5, 0.9)[0]) - 0.9)
        < 1e-6,
        "at 0.5 the noise says nothing, so the answer is the share of white pixels: 0.9 when the share is 0.9.",
    )
    for sigma, share in ((0.3, 0.5), (0.5, 0.2), (1.0, 0.8)):
        right, got = (
            binary_denoiser(noisy, sigma, share),
            answer(noisy.clone(), sigma, share),
        )
        require(
            torch.allclose(got, right, atol=1e-6),
            f"at σ = {sigma} and a share of {share} it is off by up to {float((got - right).abs().max()):.3f}; "
            "a Gaussian's exponent is −(distance)²/(2σ²).",
        )


# 03.2 -----------------------------------------------------------------------------------------------------


def to_sigma_view(x_t: torch.Tensor, alpha_bar: float) -> tuple[torch.Tensor, float]:
    """Return (x + σ n, σ) for x_t = √ᾱ x + √(1−ᾱ) n, the variance-preserving noisy image."""
    return x_t / math.sqrt(alpha_bar), math.sqrt((1 - alpha_bar) / alpha_bar)


def _forgets_to_rescale(
    x_t: torch.Tensor, alpha_bar: float
) -> tuple[torch.Tensor, float]:
    return x_t, math.sqrt(1 - alpha_bar)


def _keeps_the_noise_level(
    x_t: torch.Tensor, alpha_bar: float
) -> tuple[torch.Tensor, float]:
    return x_t / math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def _check_view(answer: Callable[..., tuple[torch.Tensor, float]]) -> None:
    for alpha_bar, seed in ((0.9, 0), (0.5, 1), (0.04, 2)):
        x, noise = _gaussian((1, 1, 6, 6), seed), _gaussian((1, 1, 6, 6), seed + 10)
        got = answer(
            math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * noise, alpha_bar
        )
        require(
            isinstance(got, tuple) and len(got) == 2,
            "return two things: the image plus noise, and σ.",
        )
        noisy, sigma = got
        right = math.sqrt((1 - alpha_bar) / alpha_bar)
        require(
            abs(float(sigma) - right) < 1e-9 * right,
            f"at ᾱ = {alpha_bar} σ is {right:.4f}, yours is {float(sigma):.4f}: noise per unit of image.",
        )
        require(
            torch.allclose(noisy, x + right * noise, atol=1e-9),
            "σ is right, but the image must be x + σ n: the factor before x must become 1.",
        )


# 03.3 -----------------------------------------------------------------------------------------------------


def recite(noisy: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return the exact E[x | noisy] when x is one of ``points`` (P, D), all equally likely; noisy is (B, D)."""
    distance2 = torch.cdist(noisy, points) ** 2  # (B, P)
    return torch.softmax(-distance2 / (2 * sigma**2), dim=1) @ points


def _nearest_point(
    noisy: torch.Tensor, points: torch.Tensor, sigma: float
) -> torch.Tensor:
    return points[torch.cdist(noisy, points).argmin(1)]


def _distance_not_squared(
    noisy: torch.Tensor, points: torch.Tensor, sigma: float
) -> torch.Tensor:
    return torch.softmax(-torch.cdist(noisy, points) / (2 * sigma**2), dim=1) @ points


def _normalises_over_images(
    noisy: torch.Tensor, points: torch.Tensor, sigma: float
) -> torch.Tensor:
    return (
        torch.softmax(-(torch.cdist(noisy, points) ** 2) / (2 * sigma**2), dim=0)
        @ points
    )


def _check_recite(answer: Callable[..., torch.Tensor]) -> None:
    for count, size, sigma, seed in ((2, 1, 1.0, 0), (9, 2, 0.7, 1), (20, 5, 1.5, 2)):
        points, noisy = _gaussian((count, size), seed), _gaussian((4, size), seed + 50)
        got, right = answer(noisy, points, sigma), recite(noisy, points, sigma)
        require(
            getattr(got, "shape", None) == noisy.shape,
            f"expected shape {tuple(noisy.shape)}, one mean a row.",
        )
        nearest = _nearest_point(noisy, points, sigma)
        require(
            not torch.allclose(got, nearest),
            "that is the nearest point; the mean weighs every point by how likely it is to have become `noisy`.",
        )
        require(
            torch.allclose(got, right, atol=1e-8),
            "not the mean: the weights of the points must add up to one for each row of `noisy`, and each weight "
            "is proportional to exp(−distance²/(2σ²)).",
        )


# 03.4 -----------------------------------------------------------------------------------------------------


def gaussian_mse(sigma: float, spread: float) -> float:
    """Return the mse of the best denoiser at noise level sigma for pixels that are Gaussian of std ``spread``."""
    return sigma**2 * spread**2 / (sigma**2 + spread**2)


def _does_nothing(sigma: float, spread: float) -> float:
    return sigma**2


def _adds_variances(sigma: float, spread: float) -> float:
    return sigma**2 + spread**2


def _forgets_squares(sigma: float, spread: float) -> float:
    return sigma * spread / (sigma + spread)


def _check_gaussian(answer: Callable[..., float]) -> None:
    for sigma, spread in ((0.1, 0.25), (1.0, 0.25), (0.4, 0.4), (5.0, 2.0)):
        got, right = float(answer(sigma, spread)), gaussian_mse(sigma, spread)
        require(
            got <= sigma**2 + 1e-12,
            f"at σ = {sigma} doing nothing has an mse of σ²; yours is larger.",
        )
        require(
            got <= spread**2 + 1e-12,
            "always answering the mean has an mse of spread²; yours is larger.",
        )
        require(
            abs(got - right) < 1e-9,
            f"at σ = {sigma} and a spread of {spread} the mse is {right:.5f}, yours is {got:.5f}. Precisions, "
            "the inverses of variances, add up.",
        )


# 03.5 -----------------------------------------------------------------------------------------------------


def ddim(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    """Walk from ``sigmas[-1]`` down to ``sigmas[0] = 0`` without fresh noise; return the image at the end."""
    for t in range(len(sigmas) - 1, 0, -1):
        clean = denoise(noisy, sigmas[t])
        epsilon = (noisy - clean) / sigmas[t]
        noisy = clean + sigmas[t - 1] * epsilon
    return noisy


def _jumps_at_once(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    return denoise(noisy, sigmas[-1])


def _denoises_again_and_again(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    for sigma in reversed(sigmas[1:]):
        noisy = denoise(noisy, sigma)
    return noisy


def _walks_upwards(
    denoise: Callable[[torch.Tensor, float], torch.Tensor],
    noisy: torch.Tensor,
    sigmas: list[float],
) -> torch.Tensor:
    for t in range(1, len(sigmas)):
        clean = denoise(noisy, sigmas[t])
        noisy = clean + sigmas[t - 1] * (noisy - clean) / sigmas[t]
    return noisy


def _check_ddim(answer: Callable[..., torch.Tensor]) -> None:
    for spread, sigmas, seed in (
        (0.25, [0.0, 0.1, 0.5, 2.0], 0),
        (1.0, [0.0, 0.3, 1.0], 1),
    ):
        told: list[float] = []

        def denoise(
            noisy: torch.Tensor,
            sigma: float,
            s: float = spread,
            told: list[float] = told,
        ) -> torch.Tensor:
            told.append(float(sigma))
            return (
                noisy * s**2 / (s**2 + sigma**2)
            )  # exact for Gaussian pixels of mean 0

        noisy = _gaussian((1, 1, 4, 4), seed) * sigmas[-1]
        got = answer(denoise, noisy.clone(), sigmas)
        require(
            0.0 not in told,
            "the denoiser was called at σ = 0, where there is no noise left to remove.",
        )
        require(
            told == sigmas[:0:-1],
            f"the denoiser should be told {sigmas[:0:-1]}, in this order; yours told it {told}.",
        )
        require(
            torch.allclose(got, ddim(denoise, noisy, sigmas), atol=1e-9),
            "the levels are right, the end is not: after each denoising put σ_{t−1} times the estimated noise back.",
        )


# 03.6 -----------------------------------------------------------------------------------------------------


def reverse_eta(sigma: float, sigma_next: float) -> float:
    """Return the share η with which a step from sigma to sigma_next < sigma is the exact reverse of adding noise."""
    return math.sqrt(1 - (sigma_next / sigma) ** 2)


def _always_one(sigma: float, sigma_next: float) -> float:
    return 1.0


def _forgets_the_square(sigma: float, sigma_next: float) -> float:
    return math.sqrt(1 - sigma_next / sigma)


def _kept_instead(sigma: float, sigma_next: float) -> float:
    return sigma_next / sigma


def _check_eta(answer: Callable[..., float]) -> None:
    for sigma, sigma_next in ((1.0, 0.5), (5.0, 4.9), (0.3, 0.01), (2.0, 0.0)):
        eta = float(answer(sigma, sigma_next))
        require(
            0 <= eta <= 1,
            f"η is a share between 0 and 1; from {sigma} to {sigma_next} yours is {eta:.3f}.",
        )
        kept, right = math.sqrt(1 - eta**2) * sigma_next, sigma_next**2 / sigma
        require(
            abs(kept - right) < 1e-9,
            f"from σ = {sigma} to {sigma_next}, {right:.4f} ε̂ of the old noise should stay; with your η = {eta:.3f} "
            f"{kept:.4f} ε̂ does.",
        )


EXERCISES = (
    Exercise(
        title="Black or white",
        task=(
            "Every pixel of a fax is either black (0) or white (1); a share of them is white. Gaussian noise of "
            "level $\\sigma$ was added. Write the best denoiser in closed form: the mean of $x$ given the noisy one."
        ),
        solution=binary_denoiser,
        check=_check_binary,
        hint="By Bayes: how likely is the noisy value if the pixel was white, if it was black? Weigh by the share.",
        wrong=(_picks_the_nearest, _forgets_the_share, _forgets_the_two),
    ),
    Exercise(
        title="From one view to the other",
        task=(
            "Many papers and models speak the variance-preserving language, "
            "$x_t = \\sqrt{\\bar\\alpha}\\,x + \\sqrt{1-\\bar\\alpha}\\,n$. Translate: return $x + \\sigma n$ and "
            "$\\sigma$, so that you can call a denoiser."
        ),
        solution=to_sigma_view,
        check=_check_view,
        hint="Divide by whatever stands before x. What stands before n then?",
        wrong=(_forgets_to_rescale, _keeps_the_noise_level),
    ),
    Exercise(
        title="The denoiser that recites",
        task=(
            "Write the exact denoiser of a finite set of points, the one that drew the spiral. Each row of `noisy` "
            "is one of `points` plus Gaussian noise of level `sigma`."
        ),
        solution=recite,
        check=_check_recite,
        hint="`torch.cdist` gives all distances, `torch.softmax` turns exponents into weights that add up to one.",
        wrong=(_nearest_point, _distance_not_squared, _normalises_over_images),
    ),
    Exercise(
        title="How good can a denoiser be?",
        task=(
            "For pixels that are independent and Gaussian with standard deviation `spread`, the best denoiser is the "
            "straight line $D = \\mu + \\frac{s^2}{s^2+\\sigma^2}(\\tilde x - \\mu)$. What is its mean square error? "
            "Photographs are not like this, and what a network gains on this formula is what it knows of them."
        ),
        solution=gaussian_mse,
        check=_check_gaussian,
        hint="Two independent sources of knowledge, variances σ² and s²: their precisions add. Or expand E(D − x)².",
        wrong=(_does_nothing, _adds_variances, _forgets_squares),
    ),
    Exercise(
        title="Write the sampler",
        task=(
            "Write DDIM from memory. `sigmas` rises from 0; `denoise(noisy, sigma)` is given. Three lines in a loop."
        ),
        solution=ddim,
        check=_check_ddim,
        hint="Denoise, see what noise that leaves, put it back at the next lower level. The last level is 0.",
        wrong=(_jumps_at_once, _denoises_again_and_again, _walks_upwards),
    ),
    Exercise(
        title="How much fresh noise is right?",
        task=(
            "The exact reverse of adding noise keeps $\\sigma_{t-1}^2/\\sigma_t$ times the old $\\varepsilon$ and "
            "fills up with fresh noise to the level $\\sigma_{t-1}$ (this is DDPM's sampler). `ddim_step` keeps "
            "$\\sqrt{1-\\eta^2}\\,\\sigma_{t-1}$ times $\\varepsilon$. Which $\\eta$ makes the two the same?"
        ),
        solution=reverse_eta,
        check=_check_eta,
        hint="Set the two factors before ε equal and solve for η.",
        wrong=(_always_one, _forgets_the_square, _kept_instead),
    ),
)

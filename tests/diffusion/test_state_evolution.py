"""State evolution against what happens, on data whose best denoiser has a closed form."""

import numpy as np
import pytest
import torch

import idm_lib as idm
from idm_lib.diffusion import DenoiserCurve, effective_variance, predict, residual_mse
from idm_lib.solvers import oamp

SIZE = (32, 64)


def spreads():
    """Half of the pixels, at random, vary much and half little."""
    generator = torch.Generator().manual_seed(0)
    return torch.where(torch.rand(1, 1, *SIZE, generator=generator) < 0.5, 0.25, 0.02).double()


def wiener(r, tau):
    """E[x | r] for independent pixels x ~ N(0.5, s²) in white noise of variance τ²."""
    tau = torch.as_tensor(tau, dtype=r.dtype).reshape(-1, 1, 1, 1)
    gain = spreads() ** 2 / (spreads() ** 2 + tau**2)
    return 0.5 + gain * (r - 0.5)


def closed_form(tau):
    s2 = spreads() ** 2
    return float((s2 * tau**2 / (s2 + tau**2)).mean())


def images(count, seed=1):
    noise = torch.randn(count, 1, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.5 + spreads() * noise


@pytest.mark.parametrize("noise_std", [0.0, 0.05])
def test_the_noise_of_r_has_the_variance_that_is_said(noise_std):
    generator, measured, seen = torch.Generator().manual_seed(0), [], []
    for seed in range(20):
        op = idm.BlockCS(SIZE, 0.2, block_size=16, seed=seed, noise_std=noise_std)
        x = torch.rand(1, 1, *SIZE, generator=generator, dtype=torch.float64)
        estimate = x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        y = op.measure(x, seed=seed)
        r = estimate + op.A_adjoint(y - op.A(estimate)) / op.true_ratio
        said = effective_variance((estimate - x).square().mean(), op.true_ratio, noise_std)
        measured.append(float((r - x).square().mean() / said))
        seen.append(float(residual_mse(y, estimate, op) / (estimate - x).square().mean()))
    for ratios in (measured, seen):
        error = np.std(ratios) / len(ratios) ** 0.5
        assert error < 0.03
        assert abs(np.mean(ratios) - 1) < 4 * error


def test_the_predicted_course_is_the_course():
    op = idm.BlockCS(SIZE, 0.3, block_size=16)
    x = images(32)
    grid = np.geomspace(1e-3, 2, 400)
    curve = DenoiserCurve(grid, np.array([closed_form(tau) for tau in grid]))
    solution = oamp(op.A(x), op, wiener, iterations=6, keep_intermediates=True)
    course = predict(curve, op.true_ratio, float((spreads() ** 2).mean()), solution.iterations)
    assert solution.iterations >= 3
    for image, numbers, said in zip(solution.intermediates, solution.history, course, strict=True):
        assert float((image - x).square().mean()) == pytest.approx(said["mse"], rel=0.03)
        assert numbers["tau"] == pytest.approx(said["tau"], rel=0.03)
    assert course[2]["mse"] < course[0]["mse"], "there is something to predict"


def test_a_measured_curve_is_the_closed_form():
    curve = DenoiserCurve.measure(wiener, images(16), np.geomspace(0.01, 1, 5))
    for tau in (0.01, 0.1, 1.0):
        assert curve(tau) == pytest.approx(closed_form(tau), rel=0.03)
    between = curve(0.055)
    assert curve(0.0316) < between < curve(0.1)

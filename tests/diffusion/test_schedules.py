"""One ladder of noise levels in two views, and the steps on it."""

import math

import pytest
import torch

import idm_lib as idm
from idm_lib.diffusion import NoiseSchedule, ddim_step, range_null_step


def schedule(steps=20):
    return NoiseSchedule.geometric(0.01, 5.0, steps)


def test_geometric_levels():
    levels = schedule(20).sigmas
    assert levels[0] == 0
    assert float(levels[1]) == pytest.approx(0.01)
    assert float(levels[-1]) == pytest.approx(5.0)
    factors = levels[2:] / levels[1:-1]
    assert torch.allclose(factors, factors[0].expand_as(factors))
    assert NoiseSchedule.geometric(0.01, 5.0, 1).sigmas.tolist() == pytest.approx([0, 5.0])


def test_the_two_views_are_one_thing():
    x, noise = torch.rand(2, 1, 4, 4, dtype=torch.float64), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    levels = schedule()
    assert levels.alpha_bars[0] == 1
    for t in range(levels.steps + 1):
        preserving = levels.add_noise(x, noise, t)
        exploding = x + levels.sigmas[t] * noise
        assert torch.allclose(preserving, levels.alpha_bars[t].sqrt() * exploding, atol=1e-14)


def test_a_ddim_step_in_both_views():
    clean, noise = torch.rand(1, 1, 4, 4, dtype=torch.float64), torch.randn(1, 1, 4, 4, dtype=torch.float64)
    levels, t = schedule(), 7
    after = ddim_step(clean, noise, float(levels.sigmas[t - 1]))
    bar = float(levels.alpha_bars[t - 1])
    preserving = math.sqrt(bar) * clean + math.sqrt(1 - bar) * noise  # the step of Song et al. with η = 0
    assert torch.allclose(math.sqrt(bar) * after, preserving, atol=1e-14)
    assert torch.equal(ddim_step(clean, noise, 0.0), clean)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_fresh_noise_keeps_the_variance(eta):
    old, fresh = torch.randn(2, 1, 1, 200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    after = ddim_step(torch.zeros_like(old), old, 2.0, eta, fresh)
    assert float(after.std()) == pytest.approx(2.0, rel=0.02)
    assert float((after * old).mean()) == pytest.approx(2 * math.sqrt(1 - eta**2), abs=0.05)


def test_ddim_with_the_exact_denoiser_ends_at_the_right_spread():
    """For x ~ N(μ, s²) the flow scales x̃ − μ by s/√(s² + σ_T²); DDIM gets there, at first order in 1/T."""
    mean, s, top = 0.4, 0.2, 3.0
    errors = []
    for steps in (200, 400):
        levels = NoiseSchedule.geometric(0.002, top, steps).sigmas.tolist()
        x = torch.tensor([[[[mean + 1.0]]]], dtype=torch.float64)
        for t in range(steps, 0, -1):
            clean = mean + s**2 / (s**2 + levels[t] ** 2) * (x - mean)
            x = ddim_step(clean, (x - clean) / levels[t], levels[t - 1])
        errors.append(abs(float(x - mean) / (s / math.sqrt(s**2 + top**2)) - 1))
    assert errors[0] < 0.02
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


def test_the_range_null_step_explains_and_repeats_nothing():
    op = idm.BlockCS((9, 11), 0.3)
    x, other = torch.rand(2, 2, 1, 9, 11, dtype=torch.float64)
    y = op.A(x)
    once = range_null_step(other, y, op)
    assert torch.allclose(op.A(once), y, atol=1e-13)
    assert torch.allclose(range_null_step(once, y, op), once, atol=1e-13)
    assert torch.allclose(op.null_projection(once), op.null_projection(other), atol=1e-13)
    assert bool(((once - x).norm(dim=(2, 3)) <= (other - x).norm(dim=(2, 3))).all())


@pytest.mark.parametrize("levels", [[0.0], [0.1, 1.0], [0.0, 1.0, 1.0], [0.0, 2.0, 1.0], [0.0, float("nan")]])
def test_levels_that_do_not_rise_from_zero_are_refused(levels):
    with pytest.raises(idm.InputError, match="rise from 0"):
        NoiseSchedule(torch.tensor(levels))


def test_bad_ladders_and_steps_are_refused():
    for low, high, steps in ((0, 1, 5), (1, 0.5, 5), (0.1, 1, 0)):
        with pytest.raises(idm.InputError, match="geometric schedule"):
            NoiseSchedule.geometric(low, high, steps)
    for t in (-1, 21):
        with pytest.raises(idm.InputError, match="0 … 20"):
            schedule(20).add_noise(torch.zeros(1), torch.zeros(1), t)

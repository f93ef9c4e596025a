"""The first image from wavelet shrinkage: a tight frame, a slope that is one, and a start worth having."""

import pytest
import torch

import idm_lib as idm
from idm_lib.diffusion.state_evolution import residual_mse
from idm_lib.diffusion.wavelet_start import haar_shrink, wavelet_start
from idm_lib.notebook import photo

SIZES = [(32, 32), (37, 50), (16, 9)]


def noise(size, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, *size, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("size", SIZES)
def test_without_noise_nothing_is_removed(size):
    x = noise(size)
    found, slope = haar_shrink(x, torch.zeros(2, dtype=torch.float64))
    assert (found - x).abs().max() < 1e-12  # the adjoint of the frame is its inverse, whatever the size
    assert slope == pytest.approx([1, 1], abs=1e-12)


def test_pure_noise_is_all_but_removed():
    found, slope = haar_shrink(0.5 + 0.1 * noise((128, 128)), torch.full((2,), 0.01, dtype=torch.float64))
    assert (found - 0.5).square().mean() < 0.01 * 0.01
    assert slope.max() < 0.02


@pytest.mark.parametrize("size", [(32, 32), (32, 35)])
def test_the_slope_is_the_divergence_with_thresholds_held(size, monkeypatch):
    x = photo("camera", size=64).double()[..., : size[0], : size[1]] + 0.1 * noise(size, 1)
    variance, clamp, seen = torch.tensor([0.01], dtype=torch.float64), torch.Tensor.clamp, []
    monkeypatch.setattr(torch.Tensor, "clamp", lambda self, low, high: seen.append(high) or clamp(self, low, high))
    base, slope = haar_shrink(x, variance)

    def held(moved):
        thresholds = iter(seen[:15])  # three bands at each of five levels
        monkeypatch.setattr(torch.Tensor, "clamp", lambda self, *_: clamp(self, -(t := next(thresholds)), t))
        return haar_shrink(moved, variance)[0]

    trace, pixels = 0.0, size[0] * size[1]
    for i in range(pixels):
        nudge = torch.zeros_like(x).view(-1)
        nudge[i] = 1e-8
        trace += float((held(x + nudge.view_as(x)) - base).view(-1)[i] / 1e-8)
    assert trace / pixels == pytest.approx(float(slope), abs=1e-5)


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.3, 0.5])
def test_it_is_much_nearer_than_grey_and_knows_its_error(ratio):
    x, op = photo("camera", size=128).double(), idm.BlockCS((128, 128), ratio, permutation_seed=3)
    grey = torch.full_like(x, 0.5)
    y = op.A(x)
    found = wavelet_start(y, op, grey, op.true_ratio)
    mse = float((found - x).square().mean())
    assert mse < 0.2 * float((grey - x).square().mean())
    # What the shrinkage copied of its noisy input is taken out, so the measurements can still tell the error.
    assert float(residual_mse(y, found, op)) == pytest.approx(mse, rel=0.1)


def test_the_chain_begins_there_and_gains_by_it():
    prior = idm.Denoiser.from_pretrained("prior-tiny")
    x, op = photo("camera", size=64), idm.BlockCS((64, 64), 0.3)
    errors = {}
    for start in ("grey", "wavelets"):
        chain = idm.InvertibleDiffusion.from_prior(prior, 3, start=start).eval()
        with torch.no_grad():
            errors[start] = float((chain(op.A(x), op) - x).square().mean())
    assert errors["wavelets"] < 0.8 * errors["grey"]


def test_gradients_reach_the_measurements():
    x, op = photo("camera", size=24).double(), idm.BlockCS((24, 24), 0.4)
    grey, y = torch.full_like(x, 0.5), op.A(x).requires_grad_()
    weight = noise((24, 24), 1, seed=2)
    (gradient,) = torch.autograd.grad((wavelet_start(y, op, grey, op.true_ratio) * weight).sum(), y)
    direction = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(5))
    h = 1e-7
    with torch.no_grad():
        up, down = ((wavelet_start(y + s * h * direction, op, grey, op.true_ratio) * weight).sum() for s in (1, -1))
    assert float((gradient * direction).sum()) == pytest.approx(float((up - down) / (2 * h)), rel=1e-3)


def test_an_unknown_start_is_refused():
    with pytest.raises(idm.InputError, match="start must be one of grey, wavelets"):
        idm.InvertibleDiffusion.named("tiny", start="random")
    with pytest.raises(idm.InputError, match="grey with the paper's schedule"):
        idm.InvertibleDiffusion.named("tiny", schedule="paper", noise_channels=0)

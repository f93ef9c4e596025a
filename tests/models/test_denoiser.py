"""The prior: any size, one network in two views, and every weight in use."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import idm_lib as idm


def tiny(**changes):
    torch.manual_seed(0)
    options = {"block_channels": (8, 16), "layers_per_block": 2, "norm_groups": 4, "noise_channels": 8}
    return idm.Denoiser(**options | changes)


MODEL = tiny().eval().requires_grad_(False)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 33), st.integers(1, 33), st.integers(1, 3))
@example(1, 1, 1)
@example(31, 1, 2)
def test_any_size_and_batch(height, width, batch):
    x = torch.rand(batch, 1, height, width)
    sigma = torch.linspace(0.1, 1, batch)
    out = MODEL(x, sigma)
    assert out.shape == x.shape
    alone = torch.cat([MODEL(x[i : i + 1], float(sigma[i])) for i in range(batch)])
    assert torch.allclose(out, alone, atol=1e-5), "images of a batch know nothing of each other"


def test_without_noise_the_image_comes_back():
    x = torch.rand(1, 1, 8, 8)
    errors = [float((MODEL(x, sigma) - x).abs().max()) for sigma in (1e-1, 1e-3, 1e-5)]
    assert errors[2] < 1e-4 < errors[0]
    assert errors[1] == pytest.approx(100 * errors[2], rel=0.05), "proportional to σ"


def test_a_silent_network_leaves_the_wiener_filter():
    model = tiny(image_mean=0.4, image_std=0.3).double()
    for parameter in model.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    for sigma in (0.01, 0.3, 5.0):
        assert torch.allclose(model(x, sigma), 0.4 + 0.09 / (0.09 + sigma**2) * (x - 0.4), atol=1e-12)


def test_the_network_works_on_unit_variance():
    """Input and target of the network have unit variance at every σ if the images have the assumed spread."""
    model, seen = tiny().double(), []
    model.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 0.25 * torch.randn(8, 1, 32, 32, generator=generator, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    for sigma in (0.005, 0.25, 5.0):
        noisy = x + sigma * noise
        out = model(noisy, sigma)
        assert float(seen[-1].std()) == pytest.approx(1, rel=0.03)
        skip = 0.25**2 / (sigma**2 + 0.25**2)
        scale = sigma * 0.25 / math.hypot(sigma, 0.25)
        target = (0.5 + skip * (noisy - 0.5) - x) / scale
        assert float(target.std()) == pytest.approx(1, rel=0.03)
        assert out.shape == x.shape


def test_noise_prediction_and_denoising_are_one_thing():
    model = MODEL.double()
    x_t = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for t in (1, 500, 1000):
        bar, sigma = float(model.schedule.alpha_bars[t]), float(model.schedule.sigmas[t])
        clean = model(x_t / bar**0.5, sigma)
        again = (x_t - (1 - bar) ** 0.5 * model.epsilon(x_t, t)) / bar**0.5
        assert torch.allclose(clean, again, atol=1e-9)
    MODEL.float()
    for t in (0, 1001):
        with pytest.raises(idm.InputError, match="1 … 1000"):
            model.epsilon(x_t, t)


def test_the_noise_level_is_heard():
    x = torch.rand(1, 1, 8, 8)
    seen = []
    hook = MODEL.unet.register_forward_hook(lambda module, args, out: seen.append(out))
    for sigma in (0.05, 0.5):  # the same input to the network, another level
        norm = math.hypot(sigma, 0.25)
        MODEL(0.5 + norm * (x - 0.5), sigma)
    hook.remove()
    assert not torch.allclose(seen[0], seen[1], atol=1e-4)


def test_every_parameter_receives_a_gradient():
    model = tiny()
    model(torch.rand(2, 1, 16, 16), torch.tensor([0.1, 0.7])).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert without == []


@pytest.mark.parametrize("shape", [(8, 8), (1, 3, 8, 8), (1, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(idm.InputError, match=r"\(B, 1, H, W\)"):
        MODEL(torch.rand(shape), 0.1)


def test_a_level_for_each_image_or_one_for_all():
    with pytest.raises(idm.InputError, match=r"one number or \(2,\)"):
        MODEL(torch.rand(2, 1, 8, 8), torch.rand(3))


def test_a_step_that_is_none_is_refused():
    for t in (1.5, "1", True):
        with pytest.raises(idm.InputError, match="t must be a whole number"):
            MODEL.epsilon(torch.rand(1, 1, 8, 8), t)


def test_a_plain_number_is_looked_at_wherever_the_image_is():
    """A tensor of levels is not: to look into one on a GPU is to wait for it."""
    model = tiny().to("meta")
    image = torch.empty(1, 1, 8, 8, device="meta")
    assert model(image, 0.1).shape == image.shape
    for sigma in (0.0, -1, math.nan):
        with pytest.raises(idm.InputError, match="sigma must be positive"):
            model(image, sigma)


WRONG_NUMBERS = [
    ({"image_std": 0}, "image_std must be above 0"),
    ({"image_std": "a"}, "image_std must be a finite number; got 'a'"),
    ({"image_mean": math.nan}, "image_mean must be a finite number; got nan"),
    ({"sigma_min": 0}, "0 < sigma_min < sigma_max"),
    ({"sigma_min": "abc"}, "sigma_min must be a finite number; got 'abc'"),
    ({"sigma_max": 0.001}, "got 0.005 and 0.001"),
    ({"sigma_max": math.inf}, "sigma_max must be a finite number; got inf"),
    ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
    ({"steps": 2.0}, "steps must be a whole number of at least 1; got 2.0"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_NUMBERS)
def test_numbers_that_make_no_denoiser_are_refused_by_it_and_by_a_chain(wrong, words):
    with pytest.raises(idm.InputError, match=words):
        tiny(**wrong)
    with torch.device("meta"), pytest.raises(idm.InputError, match=words):
        idm.InvertibleDiffusion.named("tiny", **wrong)

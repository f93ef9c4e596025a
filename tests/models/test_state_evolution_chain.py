"""The chain whose noise levels follow state evolution: OAMP at one network call a step, started from a prior."""

import pytest
import torch

import idm_lib as idm
from idm_lib.diffusion import effective_variance, residual_mse
from idm_lib.diffusion.range_null import range_null_step
from idm_lib.diffusion.state_evolution import residual_slope
from idm_lib.memory import MemoryPolicy
from idm_lib.memory.policy import NAMES
from idm_lib.models.unet import on_image

SIZE = (24, 32)


def prior():
    torch.manual_seed(0)
    return idm.Denoiser(block_channels=(16, 16), layers_per_block=1, norm_groups=4, noise_channels=8).double().eval()


def chain(**config):
    return idm.InvertibleDiffusion.from_prior(prior(), **{"steps": 3, **config}).double().eval()


def photo(batch=2):
    return torch.rand(batch, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_variance_of_any_gain():
    x, generator = photo(64), torch.Generator().manual_seed(2)
    op = idm.BlockCS(SIZE, 0.3, permutation_seed=tuple(range(64)))
    estimate = x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    y = op.A(x) + 0.05 * torch.randn(len(x), op.measurements, generator=generator, dtype=x.dtype)
    for gain in (0.5, 1.0, 1.4):
        r = estimate + gain * op.A_adjoint(y - op.A(estimate)) / op.true_ratio
        predicted = effective_variance(0.01, op.true_ratio, 0.05, gain)
        assert float((r - x).square().mean()) == pytest.approx(predicted, rel=0.02)


def test_slope_of_the_best_denoiser_of_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    spread, tau = 0.2, 0.1
    x = 0.5 + spread * torch.randn(4, 1, 200, 200, dtype=torch.float64, generator=generator)
    r = x + tau * torch.randn(x.shape, dtype=x.dtype, generator=generator)
    gain = spread**2 / (spread**2 + tau**2)  # the derivative of E[x | r]
    found = residual_slope(0.5 + gain * (r - 0.5), r, torch.full((4,), tau**2))
    assert found == pytest.approx([gain] * 4, abs=0.01)


@pytest.mark.parametrize("divergence", [True, False])
def test_a_plain_chain_is_oamp_by_hand_with_its_divergence_term_or_without(divergence):
    model, denoiser, x = chain(wired_steps=False, divergence=divergence), prior(), photo()
    op = idm.BlockCS(SIZE, 0.3, permutation_seed=5)
    y = op.A(x)
    state = torch.full_like(x, 0.5)
    for step in range(3):
        variance = effective_variance(residual_mse(y, state, op), op.true_ratio)
        r = state + op.A_adjoint(y - op.A(state)) / op.true_ratio
        state = denoiser(r, variance.sqrt())
        if divergence and step < 2:
            slope = residual_slope(state, r, variance).clamp(0, 0.95)[:, None, None, None]
            state = (state - slope * r) / (1 - slope)
    expected = range_null_step(state, y, op)
    assert torch.allclose(model(y, op), expected, rtol=0, atol=1e-12)


def test_wired_steps_mix_in_the_state_before():
    model, x = chain(steps=2, v_steps=0.25), photo()
    op = idm.BlockCS(SIZE, 0.3)
    y = op.A(x)
    first, second = model._steps(y, op, op.A_adjoint(y), model_memory())[1:]
    start = torch.full_like(x, 0.5)
    one = 0.75 * first[0](start, *second[0]) + 0.25 * start
    two = 0.75 * first[1](one, *second[1]) + 0.25 * start
    assert torch.allclose(model(y, op), range_null_step(two, y, op), rtol=0, atol=1e-12)


def model_memory():
    from idm_lib.models.runs import BlockMemory

    return BlockMemory()


@pytest.mark.parametrize("injectors", [(False, False), (True, False), (True, True)])
def test_the_priors_network_is_unchanged(injectors):
    model, denoiser, x = chain(injectors=injectors), prior(), photo()
    op, sigma = idm.BlockCS(SIZE, 0.1), torch.tensor([0.1, 0.7], dtype=torch.float64)
    from idm_lib.models.blocks import Surroundings

    for step in range(3):
        around = Surroundings(None, step, op, op.A_adjoint(op.A(x)))
        found = on_image(model.unet, x, sigma, around)
        assert torch.equal(found, on_image(denoiser.unet, x, sigma))


def test_joined_injectors_speak_once_they_are_trained():
    model, x = chain(injectors=(True, False)), photo()
    op = idm.BlockCS(SIZE, 0.1)
    before = model(op.A(x), op)
    for name, parameter in model.named_parameters():
        if ".i2f.weight" in name:
            torch.nn.init.constant_(parameter, 0.1)
    assert (model(op.A(x), op) - before).abs().max() > 1e-3


def test_the_result_has_the_measurements():
    op, x = idm.BlockCS(SIZE, 0.2), photo()
    y = op.A(x)
    for model in (chain(), chain(wired_steps=False), chain(wired_blocks=True, injectors=(True, False))):
        assert (op.A(model(y, op)) - y).abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_plain_backpropagation(name):
    x, op = photo(), idm.BlockCS(SIZE, 0.3)
    found = {}
    for policy in ("store", name):
        model = chain(injectors=(True, False), v_steps=0.2)
        for key, parameter in model.named_parameters():
            if ".i2f." in key:
                torch.nn.init.constant_(parameter, 0.01)
        y = op.A(x).requires_grad_()
        (model(y, op, MemoryPolicy.named(policy)) - x).square().mean().backward()
        found[policy] = {key: p.grad for key, p in model.named_parameters()} | {"y": y.grad}
    for key, gradient in found["store"].items():
        assert torch.allclose(found[name][key], gradient, rtol=1e-8, atol=1e-12), key


def test_numbers_that_the_prior_does_not_fit_are_refused():
    with pytest.raises(idm.InputError, match="do not fit at"):
        chain(block_channels=(16, 32))
    with pytest.raises(idm.InputError, match="has no weights for"):
        chain(attention=(True, False))


def test_only_state_evolution_has_a_divergence_term_to_leave_out():
    with pytest.raises(idm.InputError, match="divergence=False leaves a term out"):
        idm.InvertibleDiffusion(divergence=False)

"""What solvers make of unusual input: refused in one sentence, or understood."""

import copy

import pytest
import torch

import idm_lib as idm
from idm_lib.solvers import METHODS, ddnm, fine_tuned, get_solver


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    return idm.Denoiser(block_channels=(8, 16), norm_groups=4, noise_channels=8).eval()


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_noise_level_must_be_positive(prior, sigma):
    with pytest.raises(idm.InputError, match="sigma must be positive"):
        prior(torch.rand(1, 1, 8, 8), sigma)


@pytest.mark.parametrize("eta", [-0.1, 2.0, float("nan")])
def test_a_share_of_fresh_noise_must_be_a_share(prior, eta):
    op = idm.BlockCS((8, 8), 0.5)
    with pytest.raises(idm.InputError, match="eta must lie in"):
        ddnm(op.A(torch.rand(1, 1, 8, 8)), op, prior, iterations=2, eta=eta)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("measured", "weights"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_measurements_and_prior_may_differ_in_dtype(prior, name, measured, weights):
    """The image follows y, in whose precision it explains them; the network runs in its own."""
    op = idm.BlockCS((8, 8), 0.5)
    y = op.A(torch.rand(2, 1, 8, 8, dtype=measured, generator=torch.Generator().manual_seed(0)))
    same, other = copy.deepcopy(prior).to(measured), copy.deepcopy(prior).to(weights)
    found = get_solver(name)(y, op, other, iterations=3).image
    assert found.dtype == measured
    assert torch.allclose(op.A(found), y, atol=1e-10 if measured == torch.float64 else 1e-5)
    assert torch.allclose(found, get_solver(name)(y, op, same, iterations=3).image, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_measurements_that_need_a_gradient_are_no_obstacle(prior, name):
    op = idm.BlockCS((8, 8), 0.5)
    y = op.A(torch.rand(1, 1, 8, 8))
    expected = get_solver(name)(y, op, prior, iterations=3).image
    found = get_solver(name)(y.clone().requires_grad_(), op, prior, iterations=3).image
    assert torch.equal(found, expected)
    assert found.requires_grad == (name == "pinv"), "A⁺ is linear and differentiable; the others are algorithms"


def test_a_chain_among_solvers_is_the_chain():
    torch.manual_seed(0)
    small = {"block_channels": (8, 16), "attention": (False, False), "injectors": (True, False)}
    model = idm.InvertibleDiffusion.named("tiny", steps=2, norm_groups=4, noise_channels=8, **small).eval()
    op, seen = idm.BlockCS((8, 8), 0.5), []
    y = op.A(torch.rand(2, 1, 8, 8))
    options = {"progress": lambda done, total, _: seen.append((done, total)), "keep_intermediates": True}
    found = fine_tuned(y, op, model, **options)
    assert torch.equal(found.image, model(y, op))
    assert (found.network_calls, found.iterations, len(found.intermediates)) == (2, 2, 1)
    assert seen == [(1, 1)]
    with pytest.raises(idm.InputError, match="chain of 2 steps"):
        fine_tuned(y, op, model, iterations=3)
    with pytest.raises(idm.InputError, match="expected an InvertibleDiffusion; got Denoiser"):
        fine_tuned(y, op, idm.Denoiser(block_channels=(8, 16), norm_groups=4, noise_channels=8))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "pinv"])
@pytest.mark.parametrize("iterations", [2.5, "3", 0, True])
def test_iterations_are_whole_numbers(prior, name, iterations):
    op = idm.BlockCS((8, 8), 0.5)
    with pytest.raises(idm.InputError, match="iterations must be a whole number of at least 1"):
        get_solver(name)(op.A(torch.rand(1, 1, 8, 8)), op, prior, iterations=iterations)

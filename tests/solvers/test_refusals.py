"""Levels and shares outside their range are refused in one sentence."""

import pytest
import torch

import idm_lib as idm
from idm_lib.solvers import ddnm


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

"""Meeting the measurements: all the way without noise, as far as they can be trusted with it."""

import pytest
import torch

import idm_lib as idm
from idm_lib.diffusion.range_null import range_null_step, trust, trusted_step

SIZE = (32, 48)


def photo(seed=0, batch=6):
    return torch.rand(batch, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_without_noise_the_two_steps_are_one():
    op, x = idm.BlockCS(SIZE, 0.3), photo()
    y, estimate = op.A(photo(1)), x
    assert float((trusted_step(estimate, y, op) - range_null_step(estimate, y, op)).abs().max()) < 1e-14
    assert float((op.A(trusted_step(estimate, y, op)) - y).abs().max()) < 1e-12


@pytest.mark.parametrize("error", [0.02, 0.05, 0.2])
def test_with_noise_the_trusted_step_is_the_best_mixture(error):
    """Of all λ in x̂ + λ Aᵀ(y − A x̂), the one that it takes has the least mean square error, to a percent."""
    op = idm.BlockCS((96, 96), 0.5, noise_std=0.05)
    x = torch.rand(4, 1, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    estimate = x + error * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    y = op.measure(x, seed=3)
    correction = range_null_step(estimate, y, op) - estimate

    def mse(share):
        return float((estimate + share * correction - x).square().mean())

    least = min(mse(share / 50) for share in range(51))
    found = float((trusted_step(estimate, y, op) - x).square().mean())
    assert found < 1.01 * least
    if error < 0.1:
        assert found < 0.95 * mse(1.0), "the whole step takes the noise for the image"


def test_trust_lies_between_none_and_all():
    residual = torch.stack([torch.zeros(10), torch.full((10,), 0.05), torch.full((10,), 5.0)])
    assert trust(residual, 0.1).tolist() == pytest.approx([0.0, 0.0, 1 - 0.0004])


def test_gradients_pass():
    op = idm.BlockCS((8, 8), 0.5, noise_std=0.05, block_size=8)
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    y = torch.rand(2, op.measurements, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: trusted_step(a, b, op), (x, y))

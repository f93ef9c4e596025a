"""Steps wired with u and v apart: they begin as the tied ones, are learned, saved, and inverted as well."""

import pytest
import torch

import idm_lib as idm
from idm_lib.models import InferenceOptions, optimised

SIZE = (32, 32)


def chain(**config):
    torch.manual_seed(0)
    prior = idm.Denoiser(block_channels=(16, 16), layers_per_block=1, norm_groups=4, noise_channels=8)
    return idm.InvertibleDiffusion.from_prior(prior, steps=3, **config).double().eval()


def problem():
    op = idm.BlockCS(SIZE, 0.3, block_size=8)
    x = torch.rand(2, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return op, x, op.A(x)


def moved(model):
    """The model with another u at every step."""
    with torch.no_grad():
        for i, u in enumerate(model.chain.u):
            u.add_(0.02 * (i + 1))
    return model


def test_it_begins_as_the_tied_chain_and_has_one_number_more_a_step():
    op, _, y = problem()
    tied, free = chain(), chain(free_steps=True)
    with torch.no_grad():
        torch.testing.assert_close(free(y, op), tied(y, op), rtol=0, atol=1e-7)  # 1 − v is rounded to float32
        assert float((moved(free)(y, op) - tied(y, op)).abs().max()) > 1e-3
    tied_count, free_count = (sum(p.numel() for p in model.parameters()) for model in (tied, free))
    assert free_count == tied_count + 3


def test_every_policy_gives_the_same_gradients_also_to_u():
    op, x, y = problem()
    found = []
    for policy in ("store", "paper", "default"):
        model = moved(chain(free_steps=True))
        (model(y, op, idm.MemoryPolicy.named(policy)) - x).abs().mean().backward()
        assert all(float(u.grad.abs()) > 0 for u in model.chain.u)
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for other in found[1:]:
        assert float((other - found[0]).norm()) < 1e-8 * float(found[0].norm())


def test_it_is_saved_and_evaluated_for_inference_as_it_is(tmp_path):
    op, _, y = problem()
    model = moved(chain(free_steps=True))
    model.save_pretrained(tmp_path)
    again = idm.InvertibleDiffusion.from_pretrained(tmp_path).double().eval()
    with torch.no_grad():
        expected = model(y, op)
        torch.testing.assert_close(again(y, op), expected)
        torch.testing.assert_close(optimised(model, InferenceOptions())(y, op), expected)


def test_plain_steps_have_no_u():
    with pytest.raises(idm.InputError, match="free_steps"):
        chain(free_steps=True, wired_steps=False)

"""The chain for any operator: plug-and-play with a learned ladder, reversible, and a user's own operator in it."""

import pytest
import torch

import idm_lib as idm
from idm_lib.evaluation import psnr
from idm_lib.models.runs import BlockMemory
from idm_lib.operators import LinearOperator, cg_pseudo_inverse
from idm_lib.solvers import pnp

SIZE = (32, 48)
OPERATORS = {
    "inpainting": lambda **noise: idm.Inpainting(SIZE, 0.4, **noise),
    "super-resolution": lambda **noise: idm.SuperResolution(SIZE, 4, **noise),
    "mri": lambda **noise: idm.MRI(SIZE, 0.25, **noise),
    "ct": lambda **noise: idm.ParallelBeamCT(SIZE, 15, max_iterations=8, **noise),
    "block_cs": lambda **noise: idm.BlockCS(SIZE, 0.2, **noise),
}
ALL = pytest.mark.parametrize("name", OPERATORS)


def prior():
    torch.manual_seed(0)
    return idm.Denoiser(block_channels=(16, 16), layers_per_block=1, norm_groups=4, noise_channels=8).double().eval()


def chain(**config):
    numbers = {"steps": 3, "schedule": "levels", "ladder": (0.2, 0.02)} | config
    return idm.InvertibleDiffusion.from_prior(prior(), **numbers).double().eval()


def photo(batch=2):
    return torch.rand(batch, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@ALL
@pytest.mark.parametrize("noise_std", [0.0, 0.05])
@pytest.mark.parametrize("start", ["grey", "wavelets"])
def test_an_unwired_chain_before_training_is_plug_and_play(name, noise_std, start):
    op, x = OPERATORS[name](noise_std=noise_std), photo()
    y = op.measure(x, seed=0)
    with torch.no_grad():
        found = chain(wired_steps=False, start=start)(y, op)
    by_hand = pnp(y, op, prior(), iterations=3, sigma_max=0.2, sigma_min=0.02, start=start).image
    # the level is kept as a logarithm in float32; conjugate gradients multiply what that rounds
    assert float((found - by_hand).abs().max()) < (1e-4 if name == "ct" else 1e-5)


@ALL
def test_the_chain_is_undone_by_its_inverse(name):
    op, model, x = OPERATORS[name](), chain(), photo()
    y = op.A(x)
    with torch.no_grad():
        start, bodies, extras = model._steps(y, op, op.A_adjoint(y), BlockMemory())
        links = [idm.WiredCoupling(body, v) for body, v in zip(bodies, model.chain.v, strict=True)]
        steps = idm.ReversibleChain(links)
        ends = steps(start, start, extras=extras)
        first, second = steps.inverse(*ends, extras=extras)
    assert float((ends[0] - start).abs().max()) > 0.1
    assert float((first - start).abs().max()) < 1e-9
    assert float((second - start).abs().max()) < 1e-9


@ALL
def test_every_policy_gives_the_same_gradients(name):
    op, x, found = OPERATORS[name](), photo(), []
    for policy in ("store", "paper", "default"):
        model = chain(injectors=(True, False))
        loss = (model(op.A(x), op, idm.MemoryPolicy.named(policy)) - x).abs().mean()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    scale = float(found[0].norm())
    for other in found[1:]:
        assert float((other - found[0]).norm()) < (1e-4 if name == "ct" else 1e-8) * scale


@ALL
def test_training_lowers_the_loss_and_moves_the_ladder(name):
    op, x = OPERATORS[name](noise_std=0.02), photo()
    model = chain().train()
    before = model.weights.detach().clone()
    optimiser, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    y = op.measure(x, seed=0)
    for _ in range(4):
        loss = (model(y, op) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert bool((model.weights[:, :2] != before[:, :2]).all()), "every k and every level"


class Hidden(LinearOperator):
    """A user's own: every image is seen through three blurs, and A⁺ is left to conjugate gradients."""

    def A(self, x):
        return torch.cat([(x + x.roll(s, -1)).flatten(1) / 2 for s in (1, 3, 7)], dim=1)[:, ::2]

    def A_adjoint(self, y):
        whole = y.new_zeros(len(y), 2 * y.shape[1])
        whole[:, ::2] = y
        parts = whole.reshape(len(y), 3, 1, *SIZE).unbind(1)
        return sum((p + p.roll(-s, -1)) / 2 for p, s in zip(parts, (1, 3, 7), strict=True))

    def A_dagger(self, y):
        return cg_pseudo_inverse(self, y, 1e-6, 50, strict=False)


def test_a_users_own_operator_trains_and_reconstructs_without_touching_the_library():
    op, x, model = Hidden(), photo(), chain().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    scores = []
    for _ in range(5):
        out = model(op.A(x), op)
        scores.append(float(psnr(out.detach(), x).mean()))
        optimiser.zero_grad()
        (out - x).square().mean().backward()
        optimiser.step()
    assert scores[-1] > scores[0]


def test_the_record_names_any_operator_also_one_that_is_not_imported(tmp_path):
    for record in ({"operator": "MRI", "ratio": 0.25}, {"operator": "SomebodysCamera", "lens": 3}):
        chain(operator=record).save_pretrained(tmp_path / record["operator"])
        loaded = idm.InvertibleDiffusion.from_pretrained(tmp_path / record["operator"])
        assert loaded.config.operator == record
        assert loaded.config.schedule == "levels"
        assert tuple(loaded.config.ladder) == (0.2, 0.02)

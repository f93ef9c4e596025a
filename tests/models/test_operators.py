"""The chain, and the solvers beside it, on every operator: nothing in them knows what is measured."""

import pytest
import torch

import idm_lib as idm
from idm_lib.evaluation import psnr
from idm_lib.operators import LinearOperator, cg_pseudo_inverse
from idm_lib.solvers import ddnm, oamp, pinv, tv

SIDE = 64
OPERATORS = {
    "inpainting": lambda **noise: idm.Inpainting((SIDE, SIDE), 0.5, **noise),
    "box": lambda **noise: idm.Inpainting((SIDE, SIDE), 0.9, "box", **noise),
    "strokes": lambda **noise: idm.Inpainting((SIDE, SIDE), 0.8, "strokes", **noise),
    "super-resolution": lambda **noise: idm.SuperResolution((SIDE, SIDE), 4, **noise),
    "hadamard": lambda **noise: idm.Hadamard((SIDE, SIDE), 0.2, **noise),
    "mri": lambda **noise: idm.MRI((SIDE, SIDE), 0.25, **noise),
    "mri-coils": lambda **noise: idm.MRI((SIDE, SIDE), 0.25, "radial", coils=4, tolerance=1e-2, **noise),
    "ct": lambda **noise: idm.ParallelBeamCT((SIDE, SIDE), 20, tolerance=1e-2, **noise),
}
ALL = pytest.mark.parametrize("name", OPERATORS)


def image():
    """Rectangles and a slope, (1, 1, 64, 64)."""
    x = torch.linspace(0.2, 0.5, SIDE).expand(1, 1, SIDE, SIDE).clone()
    x[..., 10:34, 8:30] = 0.9
    x[..., 28:54, 24:56] = 0.6
    x[..., 40:46, 10:60] = 0.05
    return x


def small_model(**changes):
    torch.manual_seed(0)
    shape = {"block_channels": (8, 16), "attention": (False, False), "injectors": (True, False), "norm_groups": 4}
    paper = {"schedule": "paper", "start": "grey", "noise_channels": 0, "joined_injectors": False}
    return idm.InvertibleDiffusion.named("tiny", steps=2, **shape | paper | changes)


def train(model, op, x, updates):
    """A few updates as a user would write them; the losses."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(updates):
        loss = (model(op(x, seed=0), op) - x).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    return losses


@ALL
def test_the_papers_chain_trains_and_explains_what_was_measured(name):
    op, x, model = OPERATORS[name](), image(), small_model()
    losses = train(model, op, x, 3)
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    with torch.no_grad():
        assert model(op.A(x), op).shape == x.shape


@ALL
def test_inverted_and_stored_chains_have_the_same_gradients(name):
    """A⁺ by conjugate gradients is evaluated again in the backward pass, and must then be what it was."""
    op, x, gradients = OPERATORS[name](), image(), []
    for policy in ("paper", "store"):
        model = small_model()
        (model(op.A(x), op, idm.MemoryPolicy.named(policy)) - x).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact = 1e-2 if hasattr(op, "tolerance") and name != "mri" else 1e-3  # one iteration more or less
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < exact


@ALL
def test_solvers_explain_the_measurements_and_tv_betters_the_pseudo_inverse(name):
    op, x = OPERATORS[name](), image()
    y = op.A(x)
    prior = idm.Denoiser.from_pretrained("prior-tiny")
    plain, smooth = pinv(y, op).image, tv(y, op, iterations=20).image
    sampled = ddnm(y, op, prior, iterations=8).image
    for found in (plain, smooth, sampled):
        assert float((op.A(found) - y).norm() / y.norm()) < 2e-2
    assert float(psnr(smooth, x)) > float(psnr(plain, x)) + 1
    assert float(psnr(sampled, x)) > 15


@pytest.mark.parametrize("name", ["ct", "mri", "super-resolution"])
def test_oamp_asks_for_what_it_relies_on(name):
    op = OPERATORS[name]()
    with pytest.raises(idm.InputError, match=r"oamp needs .* true_ratio; this \w+ lacks one of them; use ddnm or tv"):
        oamp(op.A(image()), op, idm.Denoiser.from_pretrained("prior-tiny"))


class MotionBlur(LinearOperator):
    """A user's own: each pixel the mean of 5 along its row, on a ring; every second column is read out."""

    def kernel(self, like):
        k = torch.zeros(like.shape[-1], dtype=like.dtype)
        k[:5] = 0.2
        return torch.fft.rfft(k)

    def A(self, x):
        blurred = torch.fft.irfft(torch.fft.rfft(x) * self.kernel(x), n=x.shape[-1])
        return blurred[..., ::2].flatten(1)

    def A_adjoint(self, y):
        half = y.reshape(len(y), 1, SIDE, SIDE // 2)
        full = torch.stack([half, torch.zeros_like(half)], dim=-1).flatten(3)
        return torch.fft.irfft(torch.fft.rfft(full) * self.kernel(full).conj(), n=SIDE)

    def A_dagger(self, y):
        return cg_pseudo_inverse(self, y, tolerance=1e-3)


def test_a_users_own_operator_trains_and_reconstructs_without_touching_the_library():
    op, x, model = MotionBlur(), image(), small_model()
    losses = train(model, op, x, 3)
    assert losses[-1] < losses[0]
    y = op.A(x)
    for found in (model(y, op).detach(), tv(y, op, iterations=20).image):
        assert found.shape == x.shape
        assert float(psnr(found, x)) > 15

"""The solvers: right where the answer is known, honest about their cost, plain about bad input."""

import pytest
import torch

import idm_lib as idm
from idm_lib.evaluation import psnr
from idm_lib.solvers import METHODS, ddnm, get_solver, needs_prior, oamp, pinv, tv

SPREAD = 0.2


class Counted:
    """A prior that counts its calls."""

    def __init__(self, denoise):
        self.denoise, self.calls = denoise, 0

    def __call__(self, noisy, sigma):
        self.calls += 1
        return self.denoise(noisy, torch.as_tensor(sigma, dtype=noisy.dtype).reshape(-1, 1, 1, 1))


def gaussian(noisy, sigma):
    """E[x | noisy] for pixels x ~ N(0.5, SPREAD²)."""
    return 0.5 + SPREAD**2 / (SPREAD**2 + sigma**2) * (noisy - 0.5)


def gaussian_images(count, side):
    noise = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.5 + SPREAD * noise


def cartoon():
    """Two rectangles on a plain ground, (1, 1, 32, 32)."""
    x = torch.full((1, 1, 32, 32), 0.2)
    x[..., 4:20, 6:24] = 0.8
    x[..., 18:28, 14:30] = 0.5
    return x


def solve(name, y, op, prior=None, **options):
    return get_solver(name)(y, op, prior, **options)


def test_oamp_reaches_the_closed_form_error():
    """Known in A's range, nothing known beyond: mse = (1 − γ) s²; more iterations cannot better it."""
    op, x = idm.BlockCS((32, 32), 0.3), gaussian_images(64, 32)
    solution = oamp(op.A(x), op, Counted(gaussian))
    best = (1 - op.true_ratio) * SPREAD**2
    assert float((solution.image - x).square().mean()) == pytest.approx(best, rel=0.02)
    posterior_mean = 0.5 + op.A_adjoint(op.A(x - 0.5))
    assert float((solution.image - posterior_mean).square().mean()) < 0.02 * best


def test_ddnm_samples_the_posterior():
    """In the null space of A nothing is known: samples have the prior's mean and spread there."""
    op, x = idm.BlockCS((8, 8), 0.5), gaussian_images(1, 8)
    y = op.A(x).repeat(400, 1)
    image = ddnm(y, op, Counted(gaussian), iterations=200, eta=0.0, sigma_max=3.0, sigma_min=0.002).image
    free = op.null_projection(image - 0.5)  # (400, 1, 8, 8)
    variance = float(free.square().sum(dim=(1, 2, 3)).mean()) / (64 - op.measurements)
    assert variance == pytest.approx(SPREAD**2, rel=0.06)
    assert float(free.mean(dim=0).abs().max()) < 5 * SPREAD / 400**0.5


def test_tv_recovers_a_cartoon_that_the_pseudo_inverse_cannot():
    x = cartoon()
    op = idm.BlockCS((32, 32), 0.4)
    y = op.A(x)
    assert float(psnr(tv(y, op).image, x)) > float(psnr(pinv(y, op).image, x)) + 15


def test_the_pseudo_inverse_is_the_pseudo_inverse():
    op, x = idm.BlockCS((9, 7), 0.4), torch.rand(2, 1, 9, 7)
    assert torch.equal(pinv(op.A(x), op).image, op.A_dagger(op.A(x)))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (5, 40)])
def test_every_result_explains_its_measurements(name, size):
    op, x = idm.BlockCS(size, 0.4), torch.rand(2, 1, *size, dtype=torch.float64)
    y = op.A(x)
    solution = solve(name, y, op, Counted(gaussian), iterations=3)
    assert solution.image.shape == x.shape
    assert solution.image.dtype == x.dtype
    assert torch.allclose(op.A(solution.image), y, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_the_account_is_honest(name):
    op, x = idm.BlockCS((16, 16), 0.4), gaussian_images(2, 16)
    prior, told = Counted(gaussian), []
    solution = solve(
        name, op.A(x), op, prior, iterations=4, keep_intermediates=True, progress=lambda *state: told.append(state)
    )
    assert solution.network_calls == prior.calls
    assert (prior.calls > 0) == needs_prior(name)
    assert solution.iterations == len(solution.intermediates) == len(solution.history) == len(told)
    assert [done for done, _, _ in told] == list(range(1, solution.iterations + 1))
    assert all(total >= solution.iterations for _, total, _ in told)
    assert not solve(name, op.A(x), op, prior, iterations=2).intermediates


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_settles_the_result(name):
    op, x = idm.BlockCS((16, 16), 0.4), cartoon()[..., ::2, ::2]

    def shrink(noisy, sigma):  # not linear, so that the probe matters
        return 0.5 + (noisy - 0.5).sign() * ((noisy - 0.5).abs() - sigma / 3).clamp_min(0)

    def run(seed):
        return solve(name, op.A(x), op, Counted(shrink), iterations=4, seed=seed).image

    assert torch.equal(run(1), run(1))
    assert torch.equal(run(1), run(2)) == (name not in ("ddnm", "oamp"))


def test_oamp_stops_when_the_error_no_longer_falls():
    op, x = idm.BlockCS((16, 16), 0.4), gaussian_images(2, 16)
    solution = oamp(op.A(x), op, Counted(gaussian), iterations=50)
    assert solution.iterations < 50, "one iteration is all that this prior needs"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda y: y * float("nan"), "must be finite"),
        (lambda y: y / 0, "must be finite"),
        (lambda y: y[0], r"shape \(B, M\)"),
        (lambda y: y.long(), "floating-point"),
        (lambda y: y.tolist(), "got list"),
        (lambda y: y[:, 1:], "must have shape"),
    ],
)
def test_bad_measurements_are_refused(name, spoil, words):
    op = idm.BlockCS((8, 8), 0.5)
    y = spoil(op.A(torch.rand(2, 1, 8, 8)))
    with pytest.raises(idm.InputError, match=words):
        solve(name, y, op, Counted(gaussian), iterations=2)


def test_bad_choices_are_refused():
    op = idm.BlockCS((8, 8), 0.5)
    y = op.A(torch.rand(1, 1, 8, 8))
    with pytest.raises(idm.InputError, match="one of pinv, tv, ddnm, pnp, oamp; got 'magic'"):
        get_solver("magic")
    for name in ("ddnm", "oamp"):
        with pytest.raises(idm.InputError, match=f"{name} needs a prior"):
            solve(name, y, op)
        with pytest.raises(idm.InputError, match="at least 1"):
            solve(name, y, op, Counted(gaussian), iterations=0)
    with pytest.raises(idm.InputError, match="at least 1"):
        tv(y, op, iterations=0)

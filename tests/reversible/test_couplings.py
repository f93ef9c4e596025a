"""Couplings: they invert, v stays in its range without losing its gradient, and ties are ties."""

import pytest
import torch
from engine_models import ConvBody, relative, streams
from torch import nn

import idm_lib as idm
from idm_lib.reversible import AdditiveCoupling, AffineCoupling, FreeCoupling, WiredCoupling, widened_range


def couplings():
    torch.manual_seed(0)
    affine = nn.Conv2d(3, 6, 3, padding=1)
    wired = [WiredCoupling(ConvBody(), v=0.3), FreeCoupling(ConvBody(), v=0.3, u=0.8)]
    return [*wired, AdditiveCoupling(ConvBody()), AffineCoupling(affine)]


@pytest.mark.parametrize("coupling", couplings(), ids=lambda c: type(c).__name__)
def test_inverse_undoes_forward_and_forward_undoes_inverse(coupling):
    coupling = coupling.double()
    x1, x2 = streams(grad=False)
    y1, y2 = coupling(x1, x2)
    assert relative(y1, x2) > 1e-2, "the coupling must do something"
    for back, x in zip(coupling.inverse(y1, y2), (x1, x2), strict=True):
        assert relative(back, x) < 1e-13
    for forth, y in zip(coupling(*coupling.inverse(x1, x2)), (x1, x2), strict=True):
        assert relative(forth, y) < 1e-13


def test_wired_is_the_papers_equation():
    coupling = WiredCoupling(nn.Tanh(), v=0.25).double()
    x1, x2 = streams(grad=False)
    y1, y2 = coupling(x1, x2)
    torch.testing.assert_close(y1, 0.75 * torch.tanh(x1) + 0.25 * x2)
    assert y2 is x1


def test_free_scalars_begin_tied_and_are_learned_apart():
    free, tied = FreeCoupling(nn.Tanh(), v=0.25).double(), WiredCoupling(nn.Tanh(), v=0.25).double()
    x1, x2 = streams(grad=False)
    torch.testing.assert_close(free(x1, x2)[0], tied(x1, x2)[0])
    (free(x1, x2)[0] * x2).sum().backward()
    torch.testing.assert_close(free.u.grad, (torch.tanh(x1) * x2).sum()[None])
    torch.testing.assert_close(free.v.grad, x2.square().sum()[None])
    with pytest.raises(idm.InputError, match="one finite number"):
        FreeCoupling(nn.Tanh(), u=float("nan"))
    with pytest.raises(idm.InputError, match="one finite number"):
        FreeCoupling(nn.Tanh(), u=nn.Parameter(torch.ones(2)))


def test_fixed_weights_are_the_mixing():
    f, x2 = streams(grad=False)
    for coupling in couplings()[:3]:
        a, b = coupling.weights()
        torch.testing.assert_close(coupling.mix(f, x2), a * f + b * x2, rtol=1e-6, atol=1e-6)
        assert coupling.amplification() == pytest.approx(1 / b)
    assert couplings()[3].weights() is None


def test_affine_amplification_bounds_its_inverse():
    coupling = AffineCoupling(nn.Conv2d(3, 6, 1), max_log_scale=0.7).double()
    f = 100 * torch.randn(1, 6, 4, 4, dtype=torch.float64)
    y, step = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    moved = (coupling.unmix(f, y + step) - coupling.unmix(f, y)).abs()
    assert bool((moved <= coupling.amplification() * step.abs() * (1 + 1e-9)).all())
    assert float((moved / step.abs()).max()) > 0.99 * coupling.amplification()


def test_raw_v_outside_its_range_acts_as_the_bound_and_keeps_its_gradient():
    coupling = WiredCoupling(nn.Tanh(), v=0.5, v_range=(0.2, 0.8)).double()
    with torch.no_grad():
        coupling.v.fill_(-3.0)
    x1, x2 = streams(grad=False)
    y1, _ = coupling(x1, x2)
    torch.testing.assert_close(y1, 0.8 * torch.tanh(x1) + 0.2 * x2)
    (gradient,) = torch.autograd.grad(y1.sum(), coupling.v)
    torch.testing.assert_close(gradient, (x2 - torch.tanh(x1)).sum().reshape(1))
    assert coupling.state_dict()["v"].item() == -3.0


def test_number_outside_the_range_widens_it_with_a_warning():
    with pytest.warns(UserWarning, match=r"v = 0\.95 lies outside"):
        coupling = WiredCoupling(nn.Tanh(), v=0.95)
    assert coupling.v_range == (0.1, 0.95)
    assert coupling.effective_v().item() == pytest.approx(0.95)
    with pytest.warns(UserWarning, match="amplifies"):
        assert widened_range([0.4, 0.02]) == (0.02, 0.9)


@pytest.mark.parametrize("v", [0.0, -0.1, float("nan"), float("inf")])
def test_v_without_an_inverse_is_refused(v):
    with pytest.raises(idm.InputError, match="expected v > 0"):
        WiredCoupling(nn.Tanh(), v=v)


@pytest.mark.parametrize("v_range", [(0.0, 0.9), (0.5, 0.4), (-1.0, 1.0)])
def test_impossible_ranges_are_refused(v_range):
    with pytest.raises(idm.InputError, match="v_range"):
        WiredCoupling(nn.Tanh(), v_range=v_range)


def test_a_given_parameter_is_tied_and_its_value_is_not_judged(recwarn):
    v = nn.Parameter(torch.tensor([0.95]))
    first, second = WiredCoupling(nn.Tanh(), v=v), WiredCoupling(nn.Tanh(), v=v)
    assert first.v is v
    assert second.v is v
    assert not recwarn.list
    assert first.effective_v().item() == pytest.approx(0.9)


def test_wrong_shapes_are_refused():
    with pytest.raises(idm.InputError, match=r"shape \[1\]"):
        WiredCoupling(nn.Tanh(), v=nn.Parameter(torch.ones(2)))
    with pytest.raises(idm.InputError, match="6 channels"):
        AffineCoupling(nn.Identity())(*streams(grad=False))
    with pytest.raises(idm.InputError, match="max_log_scale"):
        AffineCoupling(nn.Identity(), max_log_scale=0)


def test_dtype_follows_the_streams():
    x1, x2 = streams(dtype=torch.float32, grad=False)
    y1, _ = WiredCoupling(nn.Tanh()).double()(x1, x2)
    assert y1.dtype == torch.float32

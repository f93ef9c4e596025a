"""Drift is measured link by link, on request, in training too, and named when it passes its bound."""

import warnings

import pytest
import torch
from engine_models import loss_of, streams, wired_chain
from torch import nn

from idm_lib.reversible import DriftLog, DriftWarning, ReversibleChain, WiredCoupling, reconstruction_errors


class Slope(nn.Module):
    """F(x) = slope·x."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return self.slope * x


@pytest.mark.parametrize("slope", [0.0, -0.5, -1.0, 1.0, -2.0])
@pytest.mark.parametrize("v", [0.3, 0.5])
def test_measured_growth_of_errors_is_the_predicted_one(slope, v):
    """x_{k−1} = (x_{k+1} − (1−v)·F(x_k))/v: √(1/v) a link where F is flat, 1/v at slope ±1, more beyond."""
    lipschitz = abs(slope)
    predicted = ((1 - v) * lipschitz + ((1 - v) ** 2 * lipschitz**2 + 4 * v) ** 0.5) / (2 * v)
    link = WiredCoupling(Slope(slope), v=v).double()
    growth = {}
    for links in (20, 40):
        chain = ReversibleChain([link] * links)
        with torch.no_grad():
            # The chain is linear, so an error at its end is inverted like a signal.
            e1, e2 = chain.inverse(*streams((1, 1, 8, 8), grad=False))
        growth[links] = float((e1.square() + e2.square()).sum().sqrt())
    assert (growth[40] / growth[20]) ** (1 / 20) == pytest.approx(predicted, rel=0.02)


def test_errors_are_measured_in_every_dtype():
    chain = wired_chain([0.5] * 24, gain=2.0)
    for dtype in (torch.float32, torch.float64):
        errors = reconstruction_errors(chain, *streams((2, 3, 8, 8), grad=False), dtype=dtype)
        assert list(errors) == [f"chain[{i}]" for i in reversed(range(24))]
        values = list(errors.values())
        assert 0 < values[0] < 20 * torch.finfo(dtype).eps
        assert values[-1] > 100 * values[0]
        assert next(chain.parameters()).dtype == torch.float64, "the chain itself is left as it was"


def test_exact_streams_do_not_drift_and_anchors_reset_it():
    x = streams((2, 3, 8, 8), dtype=torch.float32)
    worst = {}
    for name, options in {
        "plain": {"stream_dtype": "input"},
        "anchored": {"stream_dtype": "input", "anchor_every": 4},
        "double": {"stream_dtype": torch.float64},
        "exact": {"stream_dtype": "exact"},
    }.items():
        log = DriftLog(bound=float("inf"))
        chain = wired_chain([0.3] * 24, dtype=torch.float32, gain=2.0, **options)
        loss_of(*chain(*x, drift=log)).backward()
        worst[name] = log.worst()[1]
    assert worst["exact"] == 0.0
    assert worst["plain"] > 100 * worst["anchored"] > 1000 * worst["double"] > 0


def test_log_names_the_link_that_passes_the_bound_once():
    chain = wired_chain([0.2] * 16, dtype=torch.float32, stream_dtype="input", name="up.1")
    log = DriftLog(bound=1e-4)
    with pytest.warns(DriftWarning, match=r"up\.1\[\d+\]: its input was reconstructed") as caught:
        loss_of(*chain(*streams(dtype=torch.float32), drift=log)).backward()
    passed = [label for label, error in log.errors.items() if error > log.bound]
    assert 0 < len(passed) < 16
    assert len(caught) == len(passed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of(*chain(*streams(dtype=torch.float32), drift=log)).backward()


def test_the_log_agrees_with_the_full_measurement():
    chain = wired_chain([0.3] * 10, dtype=torch.float32, stream_dtype="input")
    x = streams((2, 3, 8, 8), dtype=torch.float32)
    log = DriftLog(bound=1.0, samples=384)
    loss_of(*chain(*x, drift=log)).backward()
    full = reconstruction_errors(chain, *(t.detach() for t in x))
    for label, error in full.items():
        assert 0.3 < (log.errors[label] + 1e-9) / (error + 1e-9) < 3


def test_watching_does_not_change_the_gradient():
    chain, x = wired_chain([0.5] * 4), streams()
    plain = torch.autograd.grad(loss_of(*chain(*x)), list(x))
    watched = torch.autograd.grad(loss_of(*chain(*x, drift=DriftLog())), list(x))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_nan_counts_as_drift():
    log = DriftLog()
    with pytest.warns(DriftWarning, match="nan"):
        log.record("chain[0]", torch.ones(3), torch.full((3,), torch.nan))


@pytest.mark.parametrize("order", [(0.1, float("nan"), 0.2), (float("nan"), 0.1), (0.1, 0.2, float("nan"))])
def test_nothing_hides_nan(order):
    """Neither another link's error nor a later one of the same link."""
    log = DriftLog(bound=float("inf"))
    log.errors = {f"chain[{i}]": error for i, error in enumerate(order)}
    label, error = log.worst()
    assert error != error
    assert order[int(label[6])] != order[int(label[6])]
    log.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DriftWarning)
        for one in order:
            log.record("chain[0]", torch.ones(3), torch.full((3,), 1 + one))
    assert log.errors["chain[0]"] != log.errors["chain[0]"]


def test_an_empty_batch_has_nothing_to_watch():
    chain, log = wired_chain([0.5] * 2), DriftLog()
    x = streams((0, 3, 5, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of(*chain(*x, drift=log)).backward()
    assert log.errors == {"chain[0]": 0.0, "chain[1]": 0.0}
    assert x[0].grad.shape == (0, 3, 5, 4)

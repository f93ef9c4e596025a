"""Cures for rounding: wider streams, anchors, and AUTO, which chooses them under autocast."""

import pytest
import torch
from engine_models import ConvBody, distance, loss_of, streams, wired_chain, worst
from torch import nn

from idm_lib.reversible import ReversibleChain, WiredCoupling
from idm_lib.reversible.ambient import Ambient
from idm_lib.reversible.rounding import anchors_for, leanest_cure, make_plan


def gradients_of(vs, memory, dtype=torch.float32, autocast=None, gain=2.0, **options):
    chain = wired_chain(vs, dtype=dtype, channels=8, gain=gain, **options)
    x = streams((4, 8, 12, 12), dtype=dtype)
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        h = chain(*x, memory=memory)
    loss = loss_of(*(t.float() for t in h)) / 16  # within float16's range
    return torch.autograd.grad(loss, [*x, *chain.parameters()])


def test_float64_streams_cure_float32_bodies():
    vs = [0.3] * 16
    truth = gradients_of(vs, "store", torch.float64)
    own = distance(gradients_of(vs, "store"), truth)
    assert distance(gradients_of(vs, "invert", stream_dtype="input"), truth) > 100 * own
    assert distance(gradients_of(vs, "invert", stream_dtype=torch.float64), truth) < 2 * own


def test_anchors_bound_the_growth():
    vs = [0.3] * 24
    expected = gradients_of(vs, "store")
    errors = {
        every: distance(gradients_of(vs, "invert", stream_dtype="input", anchor_every=every), expected)
        for every in (None, 0, 8, 4, 1)
    }
    assert errors[None] == errors[0] > 0.1
    assert errors[0] > 10 * errors[8] > 100 * errors[4] > 100 * errors[1]
    assert errors[1] < 1e-6


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vs", [[0.5] * 11, [0.3] * 11, [0.3] * 24, [0.5] * 40], ids=lambda vs: f"{len(vs)}x{vs[0]}")
def test_auto_under_autocast_stays_below_the_bodies_own_rounding(autocast, vs):
    truth = gradients_of(vs, "store", torch.float64)
    plain = gradients_of(vs, "store", autocast=autocast, stream_dtype=torch.float64)
    own = distance(plain, truth)
    auto = gradients_of(vs, "invert", autocast=autocast)
    assert distance(auto, plain) < own
    assert distance(auto, truth) < 1.2 * own
    assert distance(gradients_of(vs, "invert", autocast=autocast, stream_dtype="exact"), truth) < 1.5 * own
    if len(vs) > 11:
        uncured = gradients_of(vs, "invert", autocast=autocast, stream_dtype="input")
        assert not distance(uncured, truth) < 3 * own, "there was something to cure"


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_auto_with_half_precision_weights_and_inputs(half):
    vs = [0.45] * 11
    assert wired_chain(vs, dtype=half)(*streams(dtype=half))[0].dtype == half
    truth = gradients_of(vs, "store", torch.float64)
    plain = gradients_of(vs, "store", half, stream_dtype=torch.float64)
    assert distance(gradients_of(vs, "invert", half), plain) < distance(plain, truth)


def test_auto_leaves_full_precision_alone():
    chain = wired_chain([0.2] * 30, dtype=torch.float32)
    x, _ = streams(dtype=torch.float32)
    for memory in ("store", "checkpoint", "invert"):
        plan = make_plan(chain.links, x.dtype, Ambient.capture(x), memory, "auto", None)
        assert plan.stream_dtype == torch.float32
        assert plan.anchors == (frozenset(range(30)) if memory == "checkpoint" else frozenset())


def test_auto_places_anchors_by_the_product_of_amplifications():
    assert anchors_for([2.0] * 21, torch.float16) == frozenset()
    assert anchors_for([2.0] * 22, torch.float16) == frozenset({1})
    assert anchors_for([2.0] * 22, torch.bfloat16) == frozenset()
    assert anchors_for([10.0] * 20, torch.float16) == frozenset({2, 8, 14})
    assert anchors_for([1.0] * 500, torch.float16) == frozenset()
    assert anchors_for([1e9, 1e9, 1e9], torch.float16) == frozenset({1, 2})


def test_auto_takes_the_leaner_of_float32_and_float64():
    """Bytes an element that are stored: a pair at the end and one at each anchor."""
    for half, links, dtype, anchors in (
        (torch.float16, 6, torch.float32, set()),
        (torch.float16, 7, torch.float32, {1}),
        (torch.bfloat16, 8, torch.float32, set()),
        (torch.float16, 13, torch.float64, set()),  # float32 would need two anchors
        (torch.float16, 40, torch.float64, {19}),
    ):
        assert leanest_cure([2.0] * links, torch.float32, half) == (dtype, anchors)
    assert leanest_cure([2.0] * 3, torch.float64, torch.float16) == (torch.float64, frozenset()), "never less"


def test_autocast_is_entered_again_in_backward_and_does_not_leak_into_it():
    """The recompute sees the forward's autocast, whatever surrounds the call of backward."""
    seen = []

    class Body(ConvBody):
        def forward(self, x):
            out = super().forward(x)
            seen.append(out.dtype)
            return out

    chain = ReversibleChain([WiredCoupling(Body()) for _ in range(2)])
    x = streams(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss_of(*chain(*x))
    outside = loss_of(*chain(*x))
    inside.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside.backward()
    assert seen == [torch.bfloat16] * 2 + [torch.float32] * 2 + [torch.bfloat16] * 2 + [torch.float32] * 2


def test_autocast_cache_is_not_poisoned_for_a_module_used_outside_the_chain():
    """Older torch serves a cast that was cached without gradients; 2.13 no longer does, so this guards the others."""
    shared = nn.Conv2d(3, 3, 1)
    chain = ReversibleChain([WiredCoupling(shared)])
    x = streams(dtype=torch.float32)
    gradients = {}
    for memory in ("store", "invert"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h, _ = chain(*x, memory=memory)
            loss = shared(h.detach()).float().square().sum()
        gradients[memory] = torch.autograd.grad(loss, [shared.weight])
    assert worst(gradients["invert"], gradients["store"]) < 1e-2


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_loss_scaling(memory):
    """fp16 bodies, a scaled loss and the scaler's unscaling: the same step as plain autograd's."""
    weights = {}
    for kind in ("store", memory):
        chain = wired_chain([0.5] * 6, dtype=torch.float32, stream_dtype=torch.float64)
        optimizer = torch.optim.SGD(chain.parameters(), lr=1e-3)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = loss_of(*chain(*streams(dtype=torch.float32), memory=kind))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == 2.0**10, "no overflow"
        weights[kind] = [p.grad for p in chain.parameters()]
    assert worst(weights[memory], weights["store"]) < torch.finfo(torch.float16).eps


def test_overflow_reaches_the_scaler():
    chain = wired_chain([0.5] * 3, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimizer = torch.optim.SGD(chain.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in chain.parameters()]
    scaler.scale(loss_of(*chain(*streams(dtype=torch.float32)))).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 2.0**127
    assert all(torch.equal(a, b) for a, b in zip(before, chain.parameters(), strict=True))


def test_input_gradients_come_in_the_inputs_dtypes():
    chain = wired_chain([0.5] * 3, dtype=torch.float32, stream_dtype=torch.float64)
    x1 = torch.randn(1, 3, 4, 4, requires_grad=True)
    x2 = torch.randn(1, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    h1, h2 = chain(x1, x2)
    assert h1.dtype == h2.dtype == torch.float32
    g1, g2 = torch.autograd.grad(loss_of(h1, h2), [x1, x2])
    assert (g1.dtype, g2.dtype) == (torch.float32, torch.bfloat16)

"""Replay: chosen results are computed once, and gradients stay what they were."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from engine_models import loss_of, streams, worst
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from idm_lib.reversible import ATTENTION, ReversibleChain, WiredCoupling


class Count(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def attention(self):
        return sum(self.calls[name] for name in ATTENTION)


class Attend(nn.Module):
    """Self-attention over the pixels, ``times`` times."""

    def __init__(self, channels=8, times=1):
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.times = times

    def forward(self, x):
        for _ in range(self.times):
            tokens = self.qkv(x).flatten(2).transpose(1, 2).unsqueeze(1)
            q, k, v = (t.contiguous() for t in tokens.chunk(3, -1))  # each (B, 1, HW, C)
            h = F.scaled_dot_product_attention(q, k, v)
            x = self.out(h.squeeze(1).transpose(1, 2).reshape(x.shape))
        return x


def gradients(memory, replay=(), *, bodies=None):
    torch.manual_seed(0)
    bodies = bodies or (lambda: [Attend() for _ in range(3)])
    chain = ReversibleChain([WiredCoupling(body) for body in bodies()]).double()
    x = streams((2, 8, 4, 4))
    with Count() as up:
        h = chain(*x, memory=memory, replay=replay)
    with Count() as down:
        found = torch.autograd.grad(loss_of(*h), [*x, *chain.parameters()])
    return found, up.attention, down.attention


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_attention_is_computed_once_and_gradients_are_the_same(memory):
    expected, up, down = gradients("store")
    assert (up, down) == (3, 0), "the fused kernel must be what runs here"
    without, *calls = gradients(memory)
    assert calls == [3, 3]
    replayed, *calls = gradients(memory, ATTENTION)
    assert calls == [3, 0]
    assert worst(replayed, without) < 1e-12
    assert worst(replayed, expected) < 1e-11


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_several_in_one_body(memory):
    bodies = lambda: [Attend(times=3), Attend(times=2)]  # noqa: E731
    expected, _, _ = gradients("store", bodies=bodies)
    found, up, down = gradients(memory, ATTENTION, bodies=bodies)
    assert (up, down) == (5, 0)
    assert worst(found, expected) < 1e-11


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_a_result_that_the_body_changes_in_place_is_computed_again(memory):
    """It cannot be given back; the others still can, each in its own place."""
    torch.manual_seed(0)
    conv = lambda: nn.Conv2d(3, 3, 3, padding=1)  # noqa: E731
    body = nn.Sequential(conv(), nn.Tanh(), conv(), nn.ReLU(inplace=True), conv())
    chain = ReversibleChain([WiredCoupling(body) for _ in range(2)]).double()
    x = streams()
    expected = torch.autograd.grad(loss_of(*chain(*x, memory="store")), [*x, *chain.parameters()])
    h = chain(*x, memory=memory, replay={"convolution"})
    with Count() as down:
        found = torch.autograd.grad(loss_of(*h), [*x, *chain.parameters()])
    assert down.calls["convolution"] == 2, "one of three, in each of two links"
    assert worst(found, expected) < 1e-11


class Inner(nn.Module):
    def __init__(self, memory, replay):
        super().__init__()
        self.chain = ReversibleChain([WiredCoupling(Attend()) for _ in range(2)])
        self.memory, self.replay = memory, replay

    def forward(self, x):
        h1, h2 = self.chain(x, x, memory=self.memory, replay=self.replay)
        return h1 + h2


@pytest.mark.parametrize(
    ("outer", "inner", "calls"), [((), (), (4, 8)), ((), ATTENTION, (4, 4)), (ATTENTION, ATTENTION, (4, 0))]
)
def test_through_both_levels_of_a_nested_chain(outer, inner, calls):
    """Kept at both levels, attention runs once in all; without, three times."""
    expected, _, _ = gradients("store", bodies=lambda: [Inner("store", ()) for _ in range(2)])
    found, *counted = gradients("checkpoint", outer, bodies=lambda: [Inner("invert", inner) for _ in range(2)])
    assert tuple(counted) == calls
    assert worst(found, expected) < 1e-11


def test_replay_with_a_retained_graph():
    torch.manual_seed(0)
    chain = ReversibleChain([WiredCoupling(Attend()) for _ in range(2)]).double()
    x = streams((1, 8, 4, 4))
    loss = loss_of(*chain(*x, replay=ATTENTION))
    first = torch.autograd.grad(loss, x, retain_graph=True)
    second = torch.autograd.grad(loss, x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_any_operation_can_be_kept():
    torch.manual_seed(0)
    chain = ReversibleChain([WiredCoupling(nn.Conv2d(3, 3, 3, padding=1)) for _ in range(3)]).double()
    x = streams()
    h = chain(*x, replay={"convolution"})
    with Count() as down:
        found = torch.autograd.grad(loss_of(*h), [*x, *chain.parameters()])
    assert down.calls["convolution"] == 0
    plain = torch.autograd.grad(loss_of(*chain(*x, memory="store")), [*x, *chain.parameters()])
    assert worst(found, plain) < 1e-12


class Draws(nn.Module):
    """Draws a mask in an operation that may be kept, and more numbers after it; attends in between."""

    def __init__(self, dropout):
        super().__init__()
        self.attend, self.dropout = Attend(), dropout

    def forward(self, x):
        x, _ = torch.native_dropout(x, self.dropout, True)
        x = self.attend(x)
        return x * torch.rand_like(x)


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_an_operation_that_draws_random_numbers_is_not_kept_and_others_still_are(memory):
    """Given back, it would leave the generator behind, and all that is drawn after it would differ."""

    def bodies():
        return [Draws(0.5), Draws(0.25)]

    expected, _, _ = gradients("store", bodies=bodies)
    found, up, down = gradients(memory, ATTENTION | {"native_dropout"}, bodies=bodies)
    assert (up, down) == (2, 0)
    assert worst(found, expected) < 1e-11

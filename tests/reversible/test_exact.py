"""Bit-exact streams: nothing drifts at any depth, and what that costs is what was promised."""

import math

import pytest
import torch
from engine_models import loss_of, relative, streams, wired_chain, worst
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idm_lib.errors import InputError
from idm_lib.reversible import AdditiveCoupling, AffineCoupling, ReversibleChain, WiredCoupling
from idm_lib.reversible.streams import ExactStreams, schedule


def up_and_down(weights, x1, x2, f):
    """Return what 256-odd links up and down again leave of the two integer streams, and the words between."""
    up = ExactStreams(weights)
    first = up.encode(x1), up.encode(x2)
    s1, s2 = first
    for index in range(len(weights)):
        s1, s2 = up.mix(index, None, f(up.decode(s1, x1.dtype)), s2), s1
    words = up.close()
    down = ExactStreams(weights, words)
    for index in reversed(range(len(weights))):
        s1, s2 = s2, down.unmix(index, None, f(down.decode(s2, x1.dtype)), s1)
    return first, (s1, s2), words


@pytest.mark.parametrize("v", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_256_links_come_back_to_the_last_bit(v, dtype):
    x1, x2 = streams((2, 3, 8, 8), dtype=dtype, grad=False)
    first, last, _ = up_and_down([(1 - v, v)] * 256, x1, x2, lambda x: torch.sin(3 * x))
    assert torch.equal(first[0], last[0])
    assert torch.equal(first[1], last[1])


def test_the_same_links_in_float64_are_lost():
    """What exactness buys: at v = 0.2, 256 links amplify rounding by 5^256."""
    x1, x2 = streams((1, 3, 4, 4), grad=False)
    chain = wired_chain([0.2] * 256)
    with torch.no_grad():
        back = chain.inverse(*chain(x1, x2))
    assert not relative(back[1], x2) < 1.0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    vs=st.lists(st.one_of(st.floats(0.01, 1.0), st.just(0.5), st.just(1.0)), min_size=1, max_size=120),
    scale=st.sampled_from([1e-9, 1.0, 6e4]),
    seed=st.integers(0, 1000),
)
def test_any_mixture_of_v_comes_back_to_the_last_bit(vs, scale, seed):
    x1, x2 = streams((1, 2, 3, 3), grad=False, seed=seed)
    x1, x2 = (scale * x / x.abs().max() for x in (x1, x2))
    first, last, words = up_and_down([(1 - v, v) for v in vs], x1, x2, lambda x: scale * torch.sin(5 * x / scale))
    assert torch.equal(first[0], last[0])
    assert torch.equal(first[1], last[1])
    bits = sum(math.log2(1 / v) for v in vs)
    assert 16 * len(words) <= bits + 16 + 0.01 * len(vs), "log2(1/v) bits a link, rounded up to a word"


def test_additive_links_need_no_words():
    x1, x2 = streams((1, 2, 3, 3), grad=False)
    first, last, words = up_and_down([(1.0, 1.0)] * 64, x1, x2, torch.tanh)
    assert torch.equal(first[1], last[1])
    assert words == ()


def test_what_backward_rebuilds_is_what_forward_saw_bit_for_bit():
    chain = wired_chain([0.2] * 256, dtype=torch.float32, stream_dtype="exact")
    seen = {"up": [], "down": []}
    for link in chain.links:
        link.body.register_forward_pre_hook(
            lambda _, args: seen["down" if torch.is_grad_enabled() else "up"].append(args[0].detach().clone())
        )
    loss_of(*chain(*streams(dtype=torch.float32))).backward()
    assert len(seen["up"]) == len(seen["down"]) == 256
    assert all(torch.equal(u, d) for u, d in zip(seen["up"], reversed(seen["down"]), strict=True))


def test_gradients_at_depth_where_floats_fail():
    """At 64 links with v = 0.3, float32 inversion is far off; bit-exact streams agree with plain autograd."""
    gradients = {}
    for memory, stream_dtype in (("store", "input"), ("invert", "input"), ("invert", "exact")):
        chain = wired_chain([0.3] * 64, dtype=torch.float32, stream_dtype=stream_dtype)
        x = streams(dtype=torch.float32)
        h = chain(*x, memory=memory)
        gradients[memory, stream_dtype] = torch.autograd.grad(loss_of(*h), [*x, *chain.parameters()])
    expected = gradients["store", "input"]
    assert worst(gradients["invert", "exact"], expected) < 1e-4  # v is rounded to 2^-21, values to 2^-26
    assert not worst(gradients["invert", "input"], expected) < 1e-1


def test_words_kept_are_counted_beforehand():
    assert schedule([1 << 19] * 64) == ([1 if i in (43, 59) else 0 for i in range(64)], 2)
    pushes, at_end = schedule([round(0.37 * (1 << 20))] * 100)
    assert sum(pushes) + at_end == math.ceil(100 * math.log2(1 / 0.37) / 16)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 7e4])
@pytest.mark.parametrize("where", ["input", "body"])
def test_values_that_fixed_point_cannot_hold_become_nan_not_wrong(bad, where):
    body = nn.Identity() if where == "input" else _Const(bad)
    chain = ReversibleChain([WiredCoupling(body)], stream_dtype="exact")
    x1, x2 = streams(dtype=torch.float32)
    if where == "input":
        x1 = x1 + bad * (torch.arange(x1.numel()).view_as(x1) == 7)
    h1, _ = chain(x1, x2)
    assert bool(h1.isnan().all())


class _Const(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x, self.value)


def test_a_growing_sum_is_noticed_before_it_wraps():
    chain = ReversibleChain([AdditiveCoupling(_Const(3e4))] * 12, stream_dtype="exact")
    h1, _ = chain(*streams(dtype=torch.float32))
    assert bool(h1.isnan().all())


def test_couplings_without_fixed_weights_are_refused():
    chain = ReversibleChain([AffineCoupling(nn.Conv2d(3, 6, 1))], stream_dtype="exact")
    with pytest.raises(InputError, match="AffineCoupling with None at link 0"):
        chain(*streams(dtype=torch.float32))


class _Sine(nn.Module):
    """Slope one at most, and never beyond ±1."""

    def forward(self, x):
        return torch.sin(x)


@pytest.mark.parametrize("v", [0.3, 0.37, 0.5])
@pytest.mark.parametrize("links", [4, 16])
def test_inverse_without_the_remainders_costs_what_was_stated(v, links):
    """It undoes memory='store' to float64's rounding, and the bit-exact forward pass to the stated bound."""
    chain = ReversibleChain([WiredCoupling(_Sine(), v=v) for _ in range(links)], stream_dtype="exact").double()
    x = tuple(s / s.abs().max() for s in streams((2, 3, 8, 8), grad=False))
    errors = {}
    with torch.no_grad():
        for memory in ("store", "invert"):
            back = chain.inverse(*chain(*x, memory=memory))
            errors[memory] = max(float((b - s).abs().max()) for b, s in zip(back, x, strict=True))
    assert errors["store"] < 2.0**-52 * links * v**-links
    assert 2.0**-40 < errors["invert"] < (2.0**-21 + 2.0**-26) * v**-links / (1 - v)

"""The meter: counts that can be checked by hand, and the engine's claims about memory, proved by them."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from idm_lib.memory import Meter, measure
from idm_lib.reversible import ReversibleChain, WiredCoupling

MIB = 2**20


def test_bytes_by_hand():
    with Meter() as meter:
        a = torch.zeros(1024, 1024)  # 4 MiB
        b = a + 1  # 8 MiB alive
        del a
        c = b.view(-1)[::2]  # a view allocates nothing
        assert meter.live_bytes == 4 * MIB
        d = c.double()  # 4 MiB more
        del b
        assert meter.live_bytes == 8 * MIB, "the view keeps the whole storage"
        del c, d
    assert (meter.counts().peak_bytes, meter.counts().live_bytes) == (8 * MIB, 0)


def test_what_was_there_before_counts_only_when_included():
    x = torch.zeros(MIB // 4)
    with Meter() as meter:
        y = x.mul_(2).view(2, -1)
        assert meter.live_bytes == 0
        z = y + 1
        assert meter.live_bytes == MIB
    del y, z
    with Meter() as meter:
        meter.include(x, x.view(2, -1))
        assert meter.live_bytes == MIB
        del x
        assert meter.live_bytes == 0


class Hoarder(torch.autograd.Function):
    """Keeps a tensor as a plain attribute, where torch's saved-tensor hooks do not see it."""

    @staticmethod
    def forward(ctx, x):
        ctx.hoard = torch.zeros(MIB, dtype=torch.uint8)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_bytes_on_a_functions_context_count():
    x = torch.zeros(1, requires_grad=True)
    with Meter() as meter:
        y = Hoarder.apply(x)
        assert meter.live_bytes >= MIB
        del y
        gc.collect()
        assert meter.live_bytes == 0


def test_autograds_saved_tensors_count_until_backward_frees_them():
    x = torch.zeros(MIB // 4, requires_grad=True)
    with Meter() as meter:
        y = x.exp().sin().sum()
        assert meter.live_bytes == MIB + 4  # exp's result, saved by exp and by sin; and the sum
        y.backward()
    assert meter.counts().live_bytes == MIB + 4  # the gradient, and the sum


@pytest.mark.parametrize("inference", [False, True])
def test_flops_by_hand(inference):
    x, w = torch.zeros(2, 8, 10, 10), torch.zeros(16, 8, 3, 3)
    a, b = torch.zeros(5, 6), torch.zeros(7, 6)
    q = torch.zeros(2, 4, 32, 16)
    with torch.inference_mode(inference), Meter() as meter:
        F.conv2d(x, w, padding=1)
        conv = meter.counts().flops
        F.linear(a, b)
        linear = meter.counts().flops - conv
        F.scaled_dot_product_attention(q, q, q)
        attention = meter.counts().flops - conv - linear
    assert conv == 2 * (2 * 16 * 100) * (8 * 9)
    assert linear == 2 * 5 * 6 * 7
    assert attention == 2 * (2 * (2 * 4) * 32 * 32 * 16)


def test_attention_backward_is_five_products():
    q, k, v = (torch.zeros(1, 2, 32, 16, requires_grad=True) for _ in range(3))
    with Meter() as meter:
        out = F.scaled_dot_product_attention(q, k, v)
        forward = meter.counts().flops
        out.sum().backward()
    assert meter.counts().flops - forward == forward * 5 // 2


def conv_chain(links, *, shared, channels=4, device=None, **options):
    torch.manual_seed(0)
    make = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(channels, channels, 3, padding=1, device=device), nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1, device=device),
    )  # fmt: skip
    if shared:
        link = WiredCoupling(make())
        chain = ReversibleChain([link] * links, **options)
    else:
        chain = ReversibleChain([WiredCoupling(make()) for _ in range(links)], **options)
    return chain if device is None else chain.to(device)


def training_step(chain, memory, device=None, size=32):
    x = torch.zeros(2, 4, size, size, device=device, requires_grad=True)

    def step():
        h1, h2 = chain(x, x, memory=memory)
        (h1 + h2).square().sum().backward()

    return step


def activations(links, memory, *, shared=True, **options):
    """Peak bytes of one training step, beyond parameters and gradients."""
    chain = conv_chain(links, shared=shared, **options)
    peak = measure(training_step(chain, memory)).peak_bytes
    return peak - sum(p.grad.nbytes for p in chain.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_inverted_chains_need_the_same_memory_at_any_depth(shared):
    short, long = (activations(links, "invert", shared=shared) for links in (32, 256))
    assert abs(long / short - 1) < 0.01


def test_the_other_kinds_grow_with_depth_by_what_they_store():
    stream = 2 * 4 * 32 * 32 * 4
    for memory, at_least in (("checkpoint", 1), ("store", 4)):
        short, long = (activations(links, memory) for links in (8, 40))
        assert (long - short) / 32 >= at_least * stream
    assert (long - short) / 32 == pytest.approx(5 * stream, rel=0.3)


@pytest.mark.parametrize(("options", "bytes_a_link"), [
    ({"stream_dtype": "exact"}, 1 / 8),  # one bit an element and link at v = 0.5
    ({"stream_dtype": "input", "anchor_every": 16}, 2 * 4 / 16),  # a pair of float32 streams every sixteen links
    ({"stream_dtype": torch.float64}, 0),
])  # fmt: skip
def test_what_each_cure_costs_a_link(options, bytes_a_link):
    short, long = (activations(links, "invert", **options) for links in (64, 256))
    elements = 2 * 4 * 32 * 32
    assert (long - short) / 192 == pytest.approx(bytes_a_link * elements, rel=0.05, abs=0.01 * elements)


def test_evaluations_are_counted_by_body():
    chain = conv_chain(3, shared=False)
    for memory, times in (("store", 1), ("checkpoint", 2), ("invert", 2)):
        counts = measure(training_step(chain, memory), chain)
        assert counts.evaluations == {f"chain[{i}]": times for i in range(3)}
    shared = conv_chain(3, shared=True)
    assert set(measure(training_step(shared, "invert"), shared).evaluations.values()) == {6}


def test_recomputing_costs_one_forward_pass_and_nothing_else():
    chain = conv_chain(6, shared=False)
    x = torch.zeros(2, 4, 32, 32)
    with torch.no_grad():
        forward = measure(lambda: chain(x, x)).flops
    flops = {memory: measure(training_step(chain, memory)).flops for memory in ("store", "checkpoint", "invert")}
    assert flops["checkpoint"] == flops["invert"] == flops["store"] + forward


@pytest.mark.parametrize("memory", ["store", "checkpoint", "invert"])
@pytest.mark.parametrize("options", [{}, {"stream_dtype": "exact"}, {"stream_dtype": torch.float64}])
def test_real_meta_and_fake_tensors_count_the_same(memory, options):
    real = measure(training_step(conv_chain(8, shared=False, **options), memory))
    meta = measure(training_step(conv_chain(8, shared=False, device="meta", **options), memory, "meta"))
    with FakeTensorMode():
        chain = conv_chain(8, shared=False, **options)
        fake = measure(training_step(chain, memory))
    assert meta.flops == fake.flops == real.flops
    assert meta.peak_bytes == fake.peak_bytes == real.peak_bytes


def test_the_meter_leaves_no_hooks_behind():
    chain = conv_chain(2, shared=False)
    measure(training_step(chain, "invert"), chain)
    assert all(not link.body._forward_pre_hooks for link in chain.links)

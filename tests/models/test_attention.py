"""The feed-forward in slices: the same body, the same gradients, less of it alive at once."""

import pytest
import torch

from idm_lib.memory import Meter
from idm_lib.models.attention import AttentionBody, make_attention
from idm_lib.models.config import UNetConfig


def bodies(slices, channels=16, size=(6, 7)):
    torch.manual_seed(0)
    attention = make_attention(
        UNetConfig(block_channels=(16,), attention=(True,), attention_heads=2, norm_groups=4), channels
    )
    attention.double()
    h = torch.randn(2, channels, *size, dtype=torch.float64)
    return AttentionBody(attention), AttentionBody(attention, slices), h


@pytest.mark.parametrize("slices", [2, 5, 1000])
def test_slices_change_nothing_but_rounding(slices):
    whole, sliced, h = bodies(slices)
    found = []
    for body in (whole, sliced):
        x = h.clone().requires_grad_()
        out = body(x)
        gradients = torch.autograd.grad(
            (out * torch.linspace(-1, 1, 7, dtype=out.dtype)).sum(), [x, *body.parameters()]
        )
        found.append([out, *gradients])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-12)


def test_without_gradients_nothing_is_sliced():
    whole, sliced, h = bodies(3)
    with torch.no_grad():
        assert torch.equal(whole(h), sliced(h))


def test_slices_need_a_fraction_of_the_memory():
    peaks = []
    for body in bodies(8, size=(64, 64))[:2]:
        h = torch.randn(2, 16, 64, 64, dtype=torch.float64, requires_grad=True)
        with Meter() as meter:
            body(h).sum().backward()
        peaks.append(meter.counts().peak_bytes)
    assert peaks[1] < 0.7 * peaks[0]

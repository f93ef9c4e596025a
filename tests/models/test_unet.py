"""The U-Net: what is wired, how, and at which sizes."""

import pytest
import torch
from torch import nn

import idm_lib as idm
from idm_lib.models import ReversibleUNet, UNetConfig
from idm_lib.models.noise_embedding import NoiseEmbedding
from idm_lib.models.runs import PlainRun
from idm_lib.models.unet import on_image

TINY = {"block_channels": (8, 16), "attention": (False, False), "norm_groups": 4, "bottleneck_repeat": 1}


def links(unet):
    return sum(name.split(".")[-2:-1] == ["v"] for name, _ in unet.named_parameters())


def test_the_papers_network_has_the_papers_links():
    with torch.device("meta"):
        unet = ReversibleUNet(UNetConfig(injectors=(True, True), steps=3))
    assert links(unet) == 37
    injectors = sum(p.numel() for name, p in unet.named_parameters() if "injector" in name)
    assert injectors == 18_060
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(115.27e6, rel=1e-3)


def test_links_of_a_small_network():
    # encoder: two resnets, then one (the other changes the width); decoder: two of three at each level
    assert links(ReversibleUNet(UNetConfig(**TINY))) == 2 + 1 + 2 + 2
    assert links(ReversibleUNet(UNetConfig(**TINY, wired=False))) == 0


def test_wiring_is_the_formula():
    """A run of one link by hand: [h, s·h] → y₁ = (1−v) F(h) + v s h, y₂ = h → y₁ + m y₂."""
    torch.manual_seed(0)
    unet = ReversibleUNet(UNetConfig(**TINY)).double()
    block, bodies, outs = unet.down_blocks[0], [], []
    run = block.runs[0]
    for parameter, value in ((run.s, 0.8), (run.m, 0.3), (run.v[0], 0.6)):
        nn.init.constant_(parameter, value)
    block.resnets[0].register_forward_hook(lambda module, args, out: bodies.append((args[0], out)))
    block.register_forward_hook(lambda module, args, out: outs.append((args[0], out[1])))
    unet(torch.randn(2, 4, 8, 8, dtype=torch.float64))
    (h, skips), (x1, body) = outs[0], bodies[0]
    assert torch.equal(x1, h)
    assert torch.allclose(skips[0], 0.4 * body + 0.6 * 0.8 * h + 0.3 * h, atol=1e-12)


def test_plain_blocks_are_diffusers_own():
    """Unwired, a level is its resnets one after another."""
    torch.manual_seed(0)
    unet = ReversibleUNet(UNetConfig(**TINY, wired=False)).double()
    x, outs = torch.randn(1, 4, 8, 8, dtype=torch.float64), []
    block = unet.down_blocks[0]
    block.register_forward_hook(lambda module, args, out: outs.append((args[0], out[1])))
    unet(x)
    h, skips = outs[0]
    one = block.resnets[0](h, None)
    assert torch.allclose(skips[0], one)
    assert torch.allclose(skips[1], block.resnets[1](one, None))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_any_depth_and_any_image(levels):
    unet = ReversibleUNet(
        UNetConfig(block_channels=(8,) * levels, attention=(False,) * levels, norm_groups=4, bottleneck_repeat=1)
    )
    assert unet.multiple == 2 ** (levels - 1)
    for size in ((1, 1), (5, 9), (16, 16)):
        assert on_image(unet, torch.rand(2, 1, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": (True,)}, "one entry for each of 2 levels"),
        ({"norm_groups": 3}, "divide into 3 groups; got 8"),
        ({"attention": (True, True), "attention_heads": 3}, "3 attention heads"),
        ({"injectors": (False, True), "block_channels": (8, 24)}, "multiple of 16 channels; got 24"),
        ({"v": 5}, "range 0.1 … 0.9; got 5"),
        ({"v": 0.05}, "range 0.1 … 0.9; got 0.05"),
        ({"v": float("nan")}, "range 0.1 … 0.9; got nan"),
        ({"v": "half"}, "v must be a number; got 'half'"),
        ({"v_range": (0.0, 0.9)}, "0 < low ≤ high; got .*0.0, 0.9"),
        ({"v_range": (0.9, 0.1)}, "0 < low ≤ high"),
        ({"v_range": (0.1,)}, "two numbers"),
        ({"noise_channels": 7}, "must be even.*got 7; use 8"),
        ({"noise_channels": -2}, "noise_channels must be a whole number of at least 0; got -2"),
        ({"layers_per_block": 0}, "layers_per_block must be a whole number of at least 1; got 0"),
        ({"block_channels": (8, 16.0)}, "channels must be a whole number of at least 1; got 16.0"),
        ({"block_channels": (), "attention": ()}, "block_channels needs one entry"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(idm.InputError, match=words):
        UNetConfig(**TINY | changes)


def test_a_small_first_v_is_welcome_in_a_range_that_holds_it():
    unet = ReversibleUNet(UNetConfig(**TINY, v=0.05, v_range=(0.02, 0.9)))
    assert unet.down_blocks[0].runs[0].v[0].item() == pytest.approx(0.05)


def test_noise_embeddings_are_smooth_and_tell_levels_apart():
    torch.manual_seed(0)
    embed = NoiseEmbedding(16)
    near, here, far = embed(torch.tensor([0.1001, 0.1, 0.3])).detach()
    assert here.shape == (16,)
    assert float((near - here).norm()) < 0.1 * float((far - here).norm())


def test_a_run_with_no_pair_to_go_on_with_doubles_its_own_stream():
    bare = dict(norm_groups=4, attention=(False, False), layers_per_block=3, one_pair=True)
    config = UNetConfig(block_channels=(8, 16), **bare)
    unet = ReversibleUNet(config)
    assert [run.s is not None for run in unet.down_blocks[0].runs] == [True, False, False]
    assert isinstance(unet.down_blocks[1].runs[0], PlainRun)  # its resnet changes the width: nothing to wire
    assert [run.s is not None for run in list(unet.down_blocks[1].runs)[1:]] == [True, False]
    assert unet(torch.rand(1, 4, 4, 4)).shape == (1, 4, 4, 4)

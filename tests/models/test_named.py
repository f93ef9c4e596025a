"""Named configurations, and ablations as changes to them."""

import pytest
import torch

import idm_lib as idm
from idm_lib.models.runs import PlainRun, WiredRun
from idm_lib.training import ChainTask, TrainConfig


def parts(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


def named(name, **changes):
    with torch.device("meta"):
        return idm.InvertibleDiffusion.named(name, **changes)


def test_sd15_is_the_papers_model():
    model = named("sd15")
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 115.27


def test_tiny_is_what_the_shipped_configuration_trains():
    trained = ChainTask(TrainConfig.load("tiny")).build()
    model = named("tiny")
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in trained.state_dict().items()
    }
    for key, value in model.config.items():
        if not key.startswith("_") and key not in ("operator", "ratios"):
            assert trained.config[key] == value or tuple(trained.config[key]) == tuple(value), key


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"wired_steps": False}, lambda m: isinstance(m.chain, PlainRun) and parts(m.unet, WiredRun)),
        ({"wired_blocks": False}, lambda m: isinstance(m.chain, WiredRun) and not parts(m.unet, WiredRun)),
        ({"injectors": None}, lambda m: not any(".injectors." in name for name in m.state_dict())),
        ({"steps": 5}, lambda m: len(m.chain.v) == 5),
        ({"v": 0.3}, lambda m: m.config.v == 0.3),
        ({"attention": (False, True), "block_channels": (32, 64)}, lambda m: not m.unet.down_blocks[0].attentions),
    ],
)
def test_an_ablation_is_a_change(changes, holds):
    assert holds(named("sd15", **changes))


def test_either_network_follows_either_schedule():
    model = named("sd15", schedule="state-evolution", noise_channels=64)
    assert model.unet.noise_embedding is not None
    assert hasattr(named("tiny", schedule="paper", start="grey", noise_channels=0), "alpha")


def test_an_unknown_name_is_refused():
    with pytest.raises(idm.InputError, match="out of sd15, tiny, got 'huge'"):
        idm.InvertibleDiffusion.named("huge")


@pytest.mark.parametrize("schedule", ["state-evolution", "levels"])
def test_a_share_that_cannot_be_made_up_for_is_refused(schedule):
    numbers = {"schedule": schedule, "v_steps": 1.0, "v_range": (0.05, 1.0)}
    with pytest.raises(idm.InputError, match=r"v of the steps must be below 1 .*; got 1"):
        named("tiny", **numbers)
    assert named("tiny", **numbers, wired_steps=False).config.v_steps == 1.0
    paper = {"schedule": "paper", "start": "grey", "noise_channels": 0}
    assert named("tiny", **numbers | paper).config.v_steps == 1.0


def test_a_policy_goes_by_its_name_and_no_operator_is_said():
    model = idm.InvertibleDiffusion.named("tiny", steps=1)
    op = idm.BlockCS((8, 8), 0.5)
    y = op.A(torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(model(y, op, memory="store"), model(y, op, memory=idm.MemoryPolicy.store()))
    with pytest.raises(idm.InputError, match=r"a policy out of store, .* got 'invert'"):
        model(y, op, memory="invert")
    with pytest.raises(idm.InputError, match=r"op must be the operator that took y.* got NoneType"):
        model(y, None)

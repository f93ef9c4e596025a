"""What a chain starts from: a Stable Diffusion or a model; and what is neither."""

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from test_chain import Interrupted
from test_loop import Stopped, lines, same

import idm_lib as idm
from idm_lib.cli import main
from idm_lib.models.starts import start_chain, what_is
from idm_lib.training import ChainTask, TrainConfig, train

RECORD = {"ratios": (0.1, 0.1), "operator": {"seed": 0, "block_size": 32}}
SHORT = [
    "steps=6", "checkpoint_every=2", "validate_every=3", "log_every=1", "accumulate=2", "precision=fp32",
    "data.validation=2", "data.crop=16", "data.batch=2", "measure.block_size=8", "model.steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    """A Stable Diffusion with narrow layers and random weights: a pipeline's folder that has nothing but unet/."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("start") / "sd"
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32, 64, 64), norm_num_groups=8, attention_head_dim=4, cross_attention_dim=24
    )
    unet.save_pretrained(folder / "unet")
    return folder


@pytest.fixture
def config(sd, folder):
    return TrainConfig.load("sd15", [f"start={sd}", f"data.folder={folder}", *SHORT])


@pytest.fixture(scope="module")
def whole(sd, folder, tmp_path_factory):
    config = TrainConfig.load("sd15", [f"start={sd}", f"data.folder={folder}", *SHORT])
    out = tmp_path_factory.mktemp("whole")
    train(ChainTask(config), config, out)
    return out


def test_the_shipped_recipe_is_the_papers():
    config = TrainConfig.load("sd15")
    rules = config.optimiser
    assert (config.loss, config.data.crop, config.model["steps"], config.steps) == ("l1", 256, 3, 50 * 1000)
    assert (rules.kind, rules.lr, rules.decay) == ("adam", 1e-4, "halving")
    assert (rules.warmup, rules.clip, rules.ema, rules.weight_decay) == (0, 0, 0, 0), "the paper has none of these"
    assert config.data.batch == 4 * 8, "eight crops on each of four GPUs"
    assert config.data.batch // config.accumulate == 8
    assert config.measure.low == config.measure.high, "a model for each ratio"
    ChainTask(config)


def test_from_stable_diffusion_to_a_model_that_reconstructs(whole, sd, config):
    model = idm.InvertibleDiffusion.from_pretrained(whole / "final")
    assert (model.config.schedule, model.config.wired_steps, model.config.wired_blocks) == ("paper", True, True)
    assert tuple(model.config.ratios) == (0.1, 0.1)
    assert model.config.operator == {"seed": 0, "block_size": 8}
    op = idm.BlockCS((18, 13), 0.1, block_size=8)
    assert model(torch.rand(1, op.measurements), op).shape == (1, 1, 18, 13)
    start = ChainTask(config).build()
    original = UNet2DConditionModel.from_pretrained(sd / "unet").state_dict()["conv_in.weight"]
    assert torch.equal(start.unet.conv_in.weight, original)
    moved = [not torch.equal(a, b) for a, b in zip(start.parameters(), model.parameters(), strict=True)]
    assert all(moved), "every tensor gets a gradient, as data-parallel training needs"
    assert {"alpha/1", "alpha/2", "v/1", "v/2", "drift", "psnr@0.1"} <= {key for row in lines(whole) for key in row}


def test_stopped_it_ends_the_same(whole, config, tmp_path):
    with pytest.raises(Stopped):
        train(Interrupted(config), config, tmp_path)
    assert same(train(ChainTask(config), config, tmp_path), whole / "final")
    assert lines(tmp_path) == lines(whole)


def test_from_the_command_line(sd, folder, whole, tmp_path, capsys):
    settings = [word for item in (f"start={sd}", *SHORT, "precision=bf16", "steps=2") for word in ("--set", item)]
    out = tmp_path / "run"
    assert main(["train", "--config", "sd15", "--data", str(folder), "--out", str(out), *settings]) == 0
    assert all(row["loss"] > 0 for row in lines(out) if "loss" in row)
    capsys.readouterr()
    for final in (out / "final", whole / "final"):
        words = ["--ratio", "0.1", "--model", str(final)]
        assert main(["evaluate", "--images", str(folder), *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["network_calls"] == 2
        assert main(["reconstruct", str(folder / "1.png"), *words, "--out", str(tmp_path / "found")]) == 0
        capsys.readouterr()


def test_what_is_there_decides(sd):
    kinds = {
        "prior-tiny": "Denoiser",
        "tiny": "InvertibleDiffusion",
        str(sd): "UNet2DConditionModel",
        str(sd / "unet"): "UNet2DConditionModel",
    }
    assert {source: what_is(source) for source in kinds} == kinds


def test_going_on_with_a_model(folder):
    config = TrainConfig.load("tiny", ["start=tiny", "model={steps: 6}", "measure.low=0.2", "measure.block_size=16"])
    model, shipped = ChainTask(config).build(), idm.InvertibleDiffusion.from_pretrained("tiny")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), shipped.parameters(), strict=True))
    assert (tuple(model.config.ratios), model.config.operator["block_size"]) == ((0.2, 0.5), 16)
    assert model.config.v_steps == shipped.config.v_steps


def empty(folder):
    shutil.rmtree(folder / "unet")


def of_another_make(folder):
    small = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    shutil.rmtree(folder / "unet")
    UNet2DModel(**small, norm_num_groups=4).save_pretrained(folder)


def without_weights(folder):
    next((folder / "unet").glob("*.safetensors")).unlink()


def not_json(folder):
    (folder / "unet" / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (empty, "has neither config.json nor unet/config.json"),
        (of_another_make, "holds a UNet2DModel; a chain starts from a Denoiser"),
        (without_weights, "has no unet/diffusion_pytorch_model.safetensors"),
        (not_json, "is not the configuration of a model"),
        (shutil.rmtree, "there are no weights at"),
    ],
)
def test_a_folder_that_is_no_start_is_one_line(sd, folder, tmp_path, capsys, spoil, words):
    start = tmp_path / "sd"
    shutil.copytree(sd, start)
    spoil(start)
    settings = [word for item in (f"start={start}", *SHORT) for word in ("--set", item)]
    out = tmp_path / "run"
    assert main(["train", "--config", "sd15", "--data", str(folder), "--out", str(out), *settings]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("idm: ")
    assert said.count("\n") == 1
    assert not out.exists(), "a run that could not begin claims no folder"


def test_out_of_reach_and_contradictions(sd, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(idm.InputError, match="not in the local cache and the hub could not be reached"):
        what_is("owner/never-downloaded")
    with pytest.raises(idm.InputError, match=r"model.steps is 5, but tiny has 6"):
        start_chain("tiny", RECORD, steps=5)
    with pytest.raises(idm.InputError, match="block_channels is fixed by the weights"):
        start_chain(str(sd), RECORD, block_channels=(8, 16))

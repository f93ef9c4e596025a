"""The model that ships is what the book says: reversible at both levels, injected, trained, one file for all."""

import json
from importlib.resources import files

import pytest
import torch
from safetensors import safe_open

import idm_lib as idm
from idm_lib.memory import MemoryPolicy
from idm_lib.models.injector import Injector
from idm_lib.models.runs import PlainRun, WiredRun
from idm_lib.notebook import photo
from idm_lib.reversible import DriftLog

FOLDER = files("idm_lib") / "weights" / "tiny"
SIDE = 32
INVERTING = ("paper", "least", "lean", "default", "fast")


@pytest.fixture(scope="module")
def model():
    return idm.InvertibleDiffusion.from_pretrained("tiny").double()


@pytest.fixture(scope="module")
def priors_weights():
    return idm.Denoiser.from_pretrained("prior-tiny").unet.state_dict()


def gradients(model, policy, drift=None):
    x, op = photo("camera", size=SIDE).double(), idm.BlockCS((SIDE, SIDE), 0.3)
    model.zero_grad()
    (model(op.A(x), op, policy, drift) - x).square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_both_levels_are_wired(model):
    runs = {name: len(run.v) for name, run in model.named_modules() if isinstance(run, WiredRun)}
    assert runs.pop("chain") == model.config.steps == 6
    assert sorted(runs) == [
        "unet.down_blocks.0.runs.0",
        "unet.down_blocks.0.runs.1",
        "unet.down_blocks.1.runs.1",
        "unet.down_blocks.2.runs.1",
        "unet.up_blocks.0.run",
        "unet.up_blocks.1.run",
        "unet.up_blocks.2.run",
    ]
    assert sum(runs.values()) == 10
    # What is left plain cannot be wired: where the number of channels changes, there is no second stream to keep.
    plain = [name for name, run in model.named_modules() if isinstance(run, PlainRun)]
    assert plain == ["unet.down_blocks.1.runs.0", "unet.down_blocks.2.runs.0"]


def test_every_v_is_held_where_inversion_works(model):
    assert tuple(model.config.v_range) == (0.05, 0.9)
    runs = [run for run in model.modules() if isinstance(run, WiredRun)]
    assert all(tuple(run.v_range) == (0.05, 0.9) for run in runs)
    assert sum(len(run.v) for run in runs) == 16


def test_inversion_rebuilds_both_levels(model):
    drift = DriftLog()
    gradients(model, MemoryPolicy(steps="invert", blocks="invert", keep_steps=0), drift)
    steps = [error for label, error in drift.errors.items() if label.startswith("steps")]
    blocks = [error for label, error in drift.errors.items() if not label.startswith("steps")]
    assert len(steps) == 6
    assert len(blocks) == 10
    # Six steps of v = 0.05 amplify rounding by up to 1 / 0.05 each, that is 1e-16 by less than 1e8.
    assert max(steps) < 1e-8
    assert max(blocks) < 1e-13


@pytest.mark.parametrize("name", INVERTING)
def test_inverted_gradients_are_those_of_plain_backpropagation(model, name):
    exact, found = (gradients(model, MemoryPolicy.named(policy)) for policy in ("store", name))
    assert exact.keys() == found.keys()
    scale = max(gradient.abs().max() for gradient in exact.values())
    worst = max((found[key] - exact[key]).abs().max() for key in exact)
    assert worst < (1e-4 if name == "paper" else 1e-11) * scale  # only paper inverts the steps


def test_every_step_has_injectors_that_speak(model):
    injectors = {name: part for name, part in model.named_modules() if isinstance(part, Injector)}
    steps = {name.split(".injectors.")[1].split(".")[1] for name in injectors}
    assert steps == {str(t) for t in range(6)}
    for name, injector in injectors.items():
        for weight in (injector.f2i.weight, injector.i2f.weight):
            assert weight.abs().max() > 1e-4, name


def test_fine_tuning_moved_the_weights_of_the_prior(model, priors_weights):
    moved = [
        (model.unet.state_dict()[name] - value).norm() / value.norm()
        for name, value in priors_weights.items()
        if value.dim() == 4
    ]
    assert min(moved) > 1e-3
    assert max(moved) < 1


def test_one_small_file_for_every_ratio(model):
    weights = [entry for entry in FOLDER.iterdir() if entry.name.endswith((".safetensors", ".bin", ".pt"))]
    assert [entry.name for entry in weights] == ["diffusion_pytorch_model.safetensors"]
    assert len(weights[0].read_bytes()) <= 5e6
    with safe_open(str(weights[0]), "pt") as file:
        assert len(file.keys()) == len(model.state_dict())
    assert tuple(model.config.ratios) == (0.01, 0.5)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.25, 0.5])
def test_it_reconstructs_better_than_the_untouched_measurements(ratio):
    model = idm.InvertibleDiffusion.from_pretrained("tiny")
    x, op = photo("chelsea", size=64), idm.BlockCS((64, 64), ratio)
    with torch.no_grad():
        y = op.A(x)
        found, plain = model(y, op), op.A_dagger(y)
    assert (found - x).square().mean() < 0.5 * (plain - x).square().mean()


def test_how_it_was_made_lies_beside_it():
    names = {entry.name for entry in FOLDER.iterdir()}
    assert {"README.md", "config.json", "training-config.yaml", "training-log.jsonl"} <= names
    log = [json.loads(line) for line in (FOLDER / "training-log.jsonl").read_text(encoding="utf-8").splitlines()]
    config = (FOLDER / "training-config.yaml").read_text(encoding="utf-8")
    assert f"steps: {log[-1]['step']}\n" in config
    assert "memory: fast" in config  # its blocks were inverted
    seen = [row for row in log if "psnr@0.1" in row]
    assert seen[-1]["step"] == log[-1]["step"]
    assert seen[-1]["psnr@0.1"] > seen[0]["psnr@0.1"]
    assert any("drift" in row for row in log)

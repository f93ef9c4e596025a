"""Weights: what is saved is loaded, and what cannot be loaded is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import idm_lib as idm
from idm_lib.models.storage import resolve, shipped_names

WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny():
    torch.manual_seed(0)
    return idm.Denoiser(block_channels=(8, 16), layers_per_block=1, norm_groups=4, noise_channels=8)


@pytest.fixture
def folder(tmp_path):
    tiny().save_pretrained(tmp_path / "prior")
    return tmp_path / "prior"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip(tmp_path, dtype):
    model = tiny().to(dtype)
    model.save_pretrained(tmp_path)
    loaded = idm.Denoiser.from_pretrained(tmp_path)
    assert not loaded.training
    assert dict(loaded.config)["block_channels"] == [8, 16]
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32, "computed with in full precision unless asked"
        assert torch.equal(loaded.state_dict()[name], value.float())
    assert next(idm.Denoiser.from_pretrained(tmp_path, torch_dtype=dtype).parameters()).dtype == dtype


def test_shipped_names_load():
    for name in shipped_names():
        if "Denoiser" in (Path(resolve(name)) / "config.json").read_text():
            assert idm.Denoiser.from_pretrained(name)(torch.rand(1, 1, 9, 7), 0.1).shape == (1, 1, 9, 7)


def edit_weights(change):
    def spoil(folder):
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)

    return spoil


def edit_config(**changes):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def only_a_pickle(folder):
    (folder / WEIGHTS).unlink()
    torch.save(tiny().state_dict(), folder / "diffusion_pytorch_model.bin")


BIAS = "unet.conv_in.bias"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "is broken"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "is broken"),
        (lambda f: torch.save({}, f / WEIGHTS), "is broken"),
        (only_a_pickle, f"has no {WEIGHTS}"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "not the configuration of a Denoiser"),
        (lambda f: (f / "config.json").write_text("[]"), "not the configuration of a Denoiser"),
        (lambda f: (f / "config.json").write_text("{}"), "not the configuration of a Denoiser"),
        (edit_config(_class_name="Painter"), "holds a Painter, not a Denoiser"),
        (edit_config(block_channels=[8, 24]), "could not be loaded as a Denoiser"),
        (edit_config(block_channels=None), "could not be loaded as a Denoiser"),
        (edit_config(norm_groups=3), "divide into 3 groups"),
        (edit_weights(lambda s: s.pop(BIAS)), f"lack '{BIAS}'"),
        (edit_weights(lambda s: s.update(more=torch.ones(1))), "unknown 'more'"),
        (edit_weights(lambda s: s[BIAS].fill_(torch.nan)), f"NaN or infinite numbers in '{BIAS}'"),
    ],
)
def test_what_is_wrong_is_said(folder, spoil, words):
    spoil(folder)
    with pytest.raises(idm.InputError, match=words) as error:
        idm.Denoiser.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_names_that_lead_nowhere(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    shutil.copytree(folder, folder.parent / "runs" / "good")
    assert resolve("runs/good") == "runs/good"
    for name in ("nothing", "./nothing", "runs/bad", "a/b/c"):
        with pytest.raises(idm.InputError, match=f"no weights at '{name}'"):
            idm.Denoiser.from_pretrained(name)
    assert resolve("owner/name") == "owner/name", "a hub id"

"""The published layout: what is broken, foreign or contradictory is named; the numbers are in test_parity."""

import io
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import idm_lib as idm
from idm_lib.cli import main
from idm_lib.models.published import canonical
from idm_lib.models.starts import PUBLISHED, start_chain, what_is
from idm_lib.training import ChainTask, TrainConfig

PARITY = Path(__file__).parent / "parity"


def checkpoint(steps=1):
    """Every key at its full shape, without memory: each tensor is one number seen many times."""
    layout = json.loads((PARITY / f"reference_keys_T{steps}.json").read_text())
    state = {}
    for key, entry in layout.items():
        if "alias_of" in entry:
            state[key] = state[entry["alias_of"]]
        else:
            state[key] = torch.full((1,), 0.5).expand(entry["shape"])
    return state


FIRST = "unet.down_blocks.0.resnets.0.conv1.weight"
REPEATED = next(key for key in checkpoint() if canonical(key) == FIRST and key != FIRST)
V = "unet.up_blocks.1.rev_module_list.3.v"


def spoilt(changes):
    state = checkpoint()
    for key, value in changes.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {REPEATED: torch.full((1,), 0.25).expand(320, 320, 3, 3)},
            "should repeat .*resnets.0.conv1.weight' but differs",
        ),
        ({REPEATED: torch.ones(3)}, "but differs"),
        ({FIRST: None}, "but differs"),
        ({FIRST: None, REPEATED: None}, "does not fit at .*resnets.0.conv1.weight': missing"),
        ({"unet.conv_in.bias": torch.ones(321)}, "does not fit at 'unet.conv_in.bias': .*another shape"),
        ({"unet.conv_in.bias": torch.full((320,), torch.nan)}, "'unet.conv_in.bias' holds NaN or infinite"),
        ({"unet.conv_in.bias": torch.ones(320, dtype=torch.int64)}, "holds torch.int64; expected .*floating-point"),
        ({"unet.conv_in.bias": "pear"}, "holds a str; expected a state dict of tensors"),
        ({"unet.pear": torch.ones(1)}, "does not fit at 'unet.pear'"),
        ({"unet.up_blocks.0.rev_module_list.99.body.w": torch.ones(1)}, "a link 99 in a run of 11; .*another model"),
        ({"unet.down_blocks.0.rev_module_lists.0.9.body.w": torch.ones(1)}, "a link 9 in a run of 4"),
        ({V: torch.zeros(1)}, "v > 0"),
        ({"alpha": torch.full((3,), 0.5)}, r"3 step\(s\), not 1; call from_published\(..., steps=3\)"),
        ({"alpha": None}, r"has 0 step\(s\), not 1"),
    ],
)
def test_contradictions_are_named(change, words):
    with pytest.raises(idm.InputError, match=words) as error:
        idm.InvertibleDiffusion.from_published(spoilt(change), steps=1)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_any_link_is_said():
    for state in (
        {"alpha": torch.full((3,), 0.5)},
        {"alpha": torch.full((3,), 0.5), "unet.conv_in.bias": torch.ones(320)},
    ):
        with pytest.raises(idm.InputError, match=r"does not fit at '.*': missing"):
            idm.InvertibleDiffusion.from_published(state)


def test_a_checkpoint_of_three_steps_is_not_one_of_one():
    with pytest.raises(idm.InputError, match=r"3 step\(s\), not 1"):
        idm.InvertibleDiffusion.from_published(checkpoint(3), steps=1)


def harmless(steps):
    """A checkpoint whose network answers zero: nothing overflows."""
    own = ("alpha", ".v", "_scale_factor", "_scale_factors")
    state = checkpoint(steps)
    return {key: value if key.endswith(own) else torch.zeros(1).expand(value.shape) for key, value in state.items()}


def test_from_the_authors_file_to_the_command_that_evaluates_it(tmp_path, capsys):
    """The book's two lines for who has downloaded the paper's weights; one step for three, in half precision."""
    torch.save({key: value.half() for key, value in harmless(1).items()}, tmp_path / "published.pth")
    idm.InvertibleDiffusion.from_published(tmp_path / "published.pth", steps=1).save_pretrained(tmp_path / "model")
    (tmp_path / "images").mkdir()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "images" / "ramp.png")
    words = ["--images", tmp_path / "images", "--ratio", "0.5", "--model", tmp_path / "model", "--json"]
    assert main(["evaluate", *map(str, words)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["method"], report["images"], report["network_calls"]) == ("idm", 1, 1)
    assert math.isfinite(report["psnr"])


def test_training_goes_on_from_the_authors_file(tmp_path):
    torch.save({key: value.half() for key, value in checkpoint(1).items()}, tmp_path / "published.pth")
    assert what_is(str(tmp_path / "published.pth")) == PUBLISHED
    config = TrainConfig.load("sd15", [f"start={tmp_path / 'published.pth'}", "model.steps=1", "measure.low=0.05"])
    model = ChainTask(config).build()
    assert all(value.dtype == torch.float32 and value.requires_grad for value in model.parameters())
    assert (model.config.steps, tuple(model.config.ratios)) == (1, (0.05, 0.1))
    with pytest.raises(idm.InputError, match=r"has 1 step\(s\), not 3"):
        start_chain(str(tmp_path / "published.pth"), {}, steps=3)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def without_its_numbers():
    """A zip that is whole but lacks one of its parts."""
    given, out = zipfile.ZipFile(io.BytesIO(saved({"alpha": torch.ones(3)}))), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in given.namelist():
            if "/data/" not in name:
                archive.writestr(name, given.read(name))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (saved({"alpha": torch.ones(3)})[:-99], "not a checkpoint that holds weights alone"),
        (saved({"alpha": torch.ones(3)})[:9], "not a checkpoint that holds weights alone"),
        (without_its_numbers(), "not a checkpoint that holds weights alone"),
        (b"", "not a checkpoint that holds weights alone"),
        (saved([torch.ones(3)]), "it holds a list; expected a state dict"),
        (saved(torch.ones(3)), "it holds a Tensor; expected a state dict"),
        (
            saved({"state_dict": {"alpha": torch.ones(3)}}),
            "'state_dict' holds a dict; expected a state dict of tensors",
        ),
        (saved({1: torch.ones(3)}), "1 is not a tensor's name"),
        (None, "does not exist"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, content, words):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(idm.InputError, match=words) as error:
        idm.InvertibleDiffusion.from_published(path, steps=3)
    assert "\n" not in str(error.value)

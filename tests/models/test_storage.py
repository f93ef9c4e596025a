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


def small_idm(**changes):
    torch.manual_seed(0)
    size = {"block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "attention_heads": 2}
    model = idm.InvertibleDiffusion(
        **{"steps": 3, **size, "ratios": (0.1, 0.5), "operator": {"seed": 7, "block_size": 16}} | changes
    )
    for parameter in model.parameters():  # so that nothing is left at the value that it is made with
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def numbers(model):
    """The configuration as JSON has it, without what diffusers notes for itself."""
    return json.loads(json.dumps({k: v for k, v in model.config.items() if not k.startswith("_")}))


@pytest.fixture
def idm_folder(tmp_path):
    small_idm().save_pretrained(tmp_path / "idm")
    return tmp_path / "idm"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"wired_steps": False, "injectors": (False, True), "attention": (False, True)},
        {"schedule": "state-evolution", "noise_channels": 8, "steps": 2, "one_pair": False, "v_range": (0.05, 0.9)},
    ],
)
def test_an_invertible_diffusion_comes_back_exactly(tmp_path, changes):
    model = small_idm(**changes)
    model.save_pretrained(tmp_path)
    loaded = idm.InvertibleDiffusion.from_pretrained(tmp_path)
    assert numbers(loaded) == numbers(model)
    assert loaded.config.operator == {"seed": 7, "block_size": 16}
    assert loaded.config.ratios == [0.1, 0.5]
    state = loaded.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    op = idm.BlockCS((12, 8), 0.3, **model.config.operator)
    y = op.A(torch.rand(1, 1, 12, 8, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        # the kernels' summation order hangs on how memory is aligned, so the last bits may differ
        assert torch.allclose(loaded(y, op), model(y, op), rtol=0, atol=2e-6)


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"max_shard_size": "8KB"}])
def test_variants_and_shards_come_back(tmp_path, options):
    model = small_idm()
    model.save_pretrained(tmp_path, **options)
    assert not (tmp_path / WEIGHTS).exists()
    variant = {k: v for k, v in options.items() if k == "variant"}
    loaded = idm.InvertibleDiffusion.from_pretrained(tmp_path, **variant).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    lost = sorted(tmp_path.glob("*.safetensors"))[-1]
    lost.unlink()
    with pytest.raises(idm.InputError, match=r"has no diffusion_pytorch_model\.fp16|get all the shards"):
        idm.InvertibleDiffusion.from_pretrained(tmp_path, **variant)


def a_denoiser(folder):
    shutil.rmtree(folder)
    tiny().save_pretrained(folder)


V = "unet.down_blocks.0.runs.0.v.0"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:999]), "is broken"),
        (edit_config(steps=2), r"asks for 'alpha' of shape \[2\] and its weights hold \[3\]"),
        (edit_config(steps=4), r"asks for 'alpha' of shape \[4\] and its weights hold \[3\]"),
        (edit_config(steps="three"), "steps must be a whole number of at least 1; got 'three'"),
        (edit_config(schedule="cosine"), "schedule must be one of paper, state-evolution, levels; got 'cosine'"),
        (edit_config(schedule="state-evolution"), "leaves the U-Net without its noise level"),
        (edit_config(ladder=[0.1, 0.2]), "ladder must be the first and the last noise level, falling"),
        (edit_config(operator={"operator": "MRI", "sede": 1}), "operator must be a dict with some of centre"),
        (edit_config(schedule="state-evolution", noise_channels=8), "could not be loaded as an InvertibleDiffusion"),
        (edit_config(wired_steps=False), "its weights have an unknown 'chain.m'"),
        (edit_config(injectors=[False, True]), "its weights have an unknown 'unet.down_blocks.0.injectors"),
        (edit_config(block_channels=[8, 32]), r"of shape \[32\] and its weights hold \[16\]"),
        (edit_config(ratios=[0.5, 0.1]), r"ratios must be the lowest and highest in \(0, 1\]"),
        (edit_config(operator={"seed": -1}), "seed must be a whole number from 0"),
        (edit_config(operator={"sede": 1}), "operator must be a dict with some of block_size"),
        (a_denoiser, "holds a Denoiser, not an InvertibleDiffusion; load it with Denoiser.from_pretrained"),
        (edit_weights(lambda s: s[V].fill_(torch.inf)), f"NaN or infinite numbers in '{V}'"),
        (edit_weights(lambda s: s.pop("alpha")), "lack 'alpha'"),
    ],
)
def test_what_is_wrong_with_an_invertible_diffusion_is_said(idm_folder, spoil, words):
    spoil(idm_folder)
    with pytest.raises(idm.InputError, match=words) as error:
        idm.InvertibleDiffusion.from_pretrained(idm_folder)
    assert "\n" not in str(error.value)


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", WEIGHTS, "diffusion_pytorch_model.fp16.bin"])
def test_no_pickle_is_ever_opened(idm_folder, tmp_path, name):
    trace = tmp_path / "trace"
    (idm_folder / WEIGHTS).unlink()
    torch.save(small_idm().state_dict() | {"alpha": Evil(trace)}, idm_folder / name)
    loaders = (
        lambda: idm.InvertibleDiffusion.from_pretrained(idm_folder),
        lambda: idm.InvertibleDiffusion.from_pretrained(idm_folder, use_safetensors=False),
        lambda: idm.InvertibleDiffusion.from_pretrained(idm_folder, variant="fp16"),
        lambda: idm.InvertibleDiffusion.from_stable_diffusion(idm_folder),
        lambda: idm.InvertibleDiffusion.from_published(idm_folder / name),
    )
    for load in loaders:
        with pytest.raises(idm.InputError):
            load()
        assert not trace.exists()
    shutil.copy(idm_folder / name, tmp_path / "trap.pt")
    torch.load(tmp_path / "trap.pt", weights_only=False)
    assert trace.exists(), "the trap would have sprung"


def test_names_that_lead_nowhere(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    shutil.copytree(folder, folder.parent / "runs" / "good")
    assert resolve("runs/good") == "runs/good"
    for name in ("nothing", "./nothing", "runs/bad", "a/b/c"):
        with pytest.raises(idm.InputError, match=f"no weights at '{name}'"):
            idm.Denoiser.from_pretrained(name)
    assert resolve("owner/name") == "owner/name", "a hub id"

"""Starting from Stable Diffusion: what stays computes what it did there, and every tensor is accounted for."""

import json
import re
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import idm_lib as idm
from idm_lib.models import PruningReport, load_stable_diffusion
from idm_lib.models.stable_diffusion import match
from idm_lib.models.stable_diffusion_config import unet_numbers

WEIGHTS = "diffusion_pytorch_model.safetensors"
SD15 = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
}  # the rest are diffusers' defaults


def small(**changes):
    torch.manual_seed(0)
    numbers = {"block_out_channels": (16, 32, 64, 64), "norm_num_groups": 8, "attention_head_dim": 4}
    unet = UNet2DConditionModel(cross_attention_dim=24, **numbers | changes).eval()
    for name, parameter in unet.named_parameters():
        if parameter.dim() == 1:  # as after training: norms that do not start at 1 and 0
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name and "weight" in name else 0.0, 0.2)
    return unet


@pytest.fixture(scope="module")
def unet():
    return small()


@pytest.fixture(scope="module")
def saved(unet, tmp_path_factory):
    """A pipeline's folder with nothing but the U-Net in it: VAE and text encoder are not looked for."""
    folder = tmp_path_factory.mktemp("sd")
    unet.save_pretrained(folder / "unet")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "sd")
    return tmp_path / "sd"


PLAIN = {"wired_steps": False, "wired_blocks": False, "injectors": (False, False)}


def composed(unet, x):
    """The paper's pruned network, made of diffusers' own blocks, in the order of diffusers' own forward."""
    for part in (*unet.down_blocks, *unet.up_blocks):
        for resnet in part.resnets:
            resnet.time_emb_proj = None
        for attention in getattr(part, "attentions", ()):
            for block in attention.transformer_blocks:
                block.attn2 = None
    h = unet.conv_in(x)
    skips = [h]
    for level, down in enumerate(unet.down_blocks[:2]):
        for resnet, attention in zip(down.resnets, down.attentions, strict=True):
            h = attention(resnet(h, None), return_dict=False)[0]
            skips.append(h)
        if level == 0:
            h = down.downsamplers[0](h)
            skips.append(h)
    h = torch.cat([h, h], dim=1)
    for up in unet.up_blocks[2:]:
        for resnet, attention in zip(up.resnets, up.attentions, strict=True):
            h = attention(resnet(torch.cat([h, skips.pop()], dim=1), None), return_dict=False)[0]
        for upsampler in up.upsamplers or ():
            h = upsampler(h)
    assert not skips
    return unet.conv_out(F.silu(unet.conv_norm_out(h)))


def test_what_stays_computes_what_it_did(saved):
    reference = UNet2DConditionModel.from_pretrained(saved / "unet").double()
    model = idm.InvertibleDiffusion.from_stable_diffusion(saved, torch_dtype=torch.float64, **PLAIN)
    x = torch.randn(2, 4, 12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = model.unet(x), composed(reference, x)
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-12 * theirs.abs().max()


@pytest.mark.parametrize(
    "changes", [{}, {"wired_blocks": False}, {"schedule": "state-evolution", "noise_channels": 8}, {"v": 0.1}]
)
def test_the_model_with_these_weights_runs_and_trains(saved, changes):
    model = idm.InvertibleDiffusion.from_stable_diffusion(saved, steps=2, **changes)
    assert model.config.steps == 2
    assert not model.training
    op = idm.BlockCS((16, 16), 0.3)
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    out = model(op.A(x), op)
    assert out.shape == x.shape
    (out - x).abs().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    silent = {name for name, p in model.named_parameters() if not p.grad.any()}
    before_zeros = r"\.f2i\.|\.noise_embedding\."  # what follows starts at zero, and learns first
    assert silent == {name for name, _ in model.named_parameters() if re.search(before_zeros, name)}


def test_a_noise_embedding_starts_without_effect(saved):
    options = {"schedule": "state-evolution", "noise_channels": 8} | PLAIN
    told = idm.InvertibleDiffusion.from_stable_diffusion(saved, **options)
    plain = idm.InvertibleDiffusion.from_stable_diffusion(saved, **PLAIN)
    x = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.allclose(told.unet(x, torch.tensor([0.3])), plain.unet(x), atol=1e-6)


def test_the_report_counts_every_tensor_once(unet, saved):
    model, report = load_stable_diffusion(idm.InvertibleDiffusion, saved)
    theirs = {name: value.numel() for name, value in unet.state_dict().items()}
    dropped = {name: n for part in report.dropped.values() for name, n in part.items()}
    new = {name: n for part in report.new.values() for name, n in part.items()}
    assert {**report.used, **dropped} == theirs
    assert not set(report.used) & set(dropped)
    assert sum(report.used.values()) + sum(new.values()) == sum(p.numel() for p in model.parameters())
    assert set(report.dropped) == {"mid block", "coarse levels", "time embedding", "cross-attention"}
    assert set(report.new) == {"wiring scalars", "injectors", "the chain's own numbers"}
    assert all("attn2" in name or "norm2" in name for name in report.dropped["cross-attention"])
    text = str(report)
    assert re.search(rf"^used +{len(report.used)} tensors +{sum(report.used.values()):,} parameters$", text, re.M)
    assert re.search(rf"^  mid block +{len(report.dropped['mid block'])} tensors", text, re.M)


def test_at_stable_diffusions_own_size_every_tensor_is_found():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15)
        model = idm.InvertibleDiffusion(steps=3, **unet_numbers(unet.config))
    found = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    taken, report = match(ours, found, 4)
    assert unet_numbers(unet.config) == unet_numbers({}), "what a configuration leaves out is v1.5's"
    assert all(ours[name] == found[theirs] for name, theirs in taken.items())
    assert set(ours) - set(taken) == {name for part in report.new.values() for name in part}
    assert all(re.search(r"^chain\.|^alpha$|\.runs?\.|\.injectors\.", name) for name in set(ours) - set(taken))
    assert round(sum(n for part in (report.used, *report.dropped.values()) for n in part.values()) / 1e6, 2) == 859.52
    total = sum(report.used.values()) + sum(n for part in report.new.values() for n in part.values())
    assert round(total / 1e6, 2) == 115.27
    assert sum(report.new["injectors"].values()) == 18_060
    assert isinstance(report, PruningReport)


def as_variant(folder):
    state = {name: value.half() for name, value in load_file(folder / "unet" / WEIGHTS).items()}
    (folder / "unet" / WEIGHTS).unlink()
    save_file(state, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")


def in_shards(folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="500KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1


def in_shards_as_variant(folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").half()
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="500KB", variant="fp16")
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json").is_file()


def only_the_unet(folder):
    shutil.move(folder / "unet", folder.parent / "moved")
    shutil.rmtree(folder)
    shutil.move(folder.parent / "moved", folder)


def with_linear_projections(folder):
    path = folder / "unet" / WEIGHTS
    state = {k: v[..., 0, 0] if ".proj_" in k and v.dim() == 4 else v for k, v in load_file(path).items()}
    save_file(state, path)
    edit_config(use_linear_projection=True)(folder)


def edit_config(**changes):
    def spoil(folder):
        path = folder / "unet" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


@pytest.mark.parametrize(
    ("layout", "half"),
    [
        (as_variant, True),
        (in_shards, False),
        (in_shards_as_variant, True),
        (only_the_unet, False),
        (with_linear_projections, False),
    ],
)
def test_layouts_of_the_files(folder, unet, layout, half):
    layout(folder)
    model = idm.InvertibleDiffusion.from_stable_diffusion(folder, steps=1)
    theirs = unet.state_dict()["up_blocks.3.attentions.2.proj_out.weight"]
    ours = model.unet.up_blocks[1].attentions[2].proj_out.weight
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs.half().float() if half else theirs)


def test_a_variant_is_used_when_asked_for(folder):
    state = {name: torch.zeros_like(value) for name, value in load_file(folder / "unet" / WEIGHTS).items()}
    save_file(state, folder / "unet" / "diffusion_pytorch_model.ema.safetensors")
    assert idm.InvertibleDiffusion.from_stable_diffusion(folder, steps=1).unet.conv_in.weight.any()
    assert not idm.InvertibleDiffusion.from_stable_diffusion(folder, steps=1, variant="ema").unet.conv_in.weight.any()


def test_attention_can_be_switched_off(saved):
    model, report = load_stable_diffusion(idm.InvertibleDiffusion, saved, attention=(False, True))
    assert not model.unet.down_blocks[0].attentions
    assert {name.partition(".attentions.")[0] for name in report.dropped["attention switched off"]} == {
        "down_blocks.0",
        "up_blocks.3",
    }
    assert model(torch.rand(1, 77), idm.BlockCS((16, 16), 0.3)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("widths", [(16, 32), (16, 32, 96)])
def test_other_depths_and_layers(tmp_path, widths):
    n = len(widths)
    unet = small(
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (n - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (n - 1) + ("UpBlock2D",),
    )
    unet.save_pretrained(tmp_path)
    model, report = load_stable_diffusion(idm.InvertibleDiffusion, tmp_path, steps=1)
    assert model.config.attention == (False, True)
    assert model.config.bottleneck_repeat == (3 if n == 3 else 1)
    assert model(torch.rand(1, 77), idm.BlockCS((16, 16), 0.3)).isfinite().all()
    assert len(report.used) + sum(map(len, report.dropped.values())) == len(unet.state_dict())


def edit_weights(change):
    def spoil(folder):
        state = load_file(folder / "unet" / WEIGHTS)
        change(state)
        save_file(state, folder / "unet" / WEIGHTS)

    return spoil


def pickled(folder):
    state = load_file(folder / "unet" / WEIGHTS)
    (folder / "unet" / WEIGHTS).unlink()
    torch.save(state, folder / "unet" / "diffusion_pytorch_model.bin")


def lost_shard(folder):
    in_shards(folder)
    next((folder / "unet").glob("*-00001-*")).unlink()


def index_of(text):
    def spoil(folder):
        (folder / "unet" / WEIGHTS).unlink()
        (folder / "unet" / f"{WEIGHTS}.index.json").write_text(text)

    return spoil


BIAS = "up_blocks.3.resnets.0.conv1.bias"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: shutil.rmtree(f / "unet"), "neither unet/config.json nor config.json"),
        (lambda f: (f / "unet" / WEIGHTS).unlink(), f"has no unet/{WEIGHTS}"),
        (pickled, "pickled weights are not read"),
        (lambda f: (f / "unet" / WEIGHTS).write_bytes((f / "unet" / WEIGHTS).read_bytes()[:-9]), "is broken"),
        (lost_shard, "get all the shards"),
        (index_of("{}"), "is not an index of weights"),
        (index_of('{"weight_map": {"a": "../../b.safetensors"}}'), "names '../../b.safetensors', which is not"),
        (lambda f: (f / "unet" / "config.json").write_text("{"), "is not the configuration of a UNet2DCondition"),
        (edit_config(_class_name="UNet2DModel"), "of a UNet2DModel; expected a UNet2DConditionModel"),
        (edit_config(in_channels=9), "has in_channels = 4; this one has 9"),
        (edit_config(only_cross_attention=True), "has only_cross_attention = False; this one has True"),
        (edit_config(attention_head_dim=[5, 10, 20, 20]), "attention_head_dim must be the same at the two"),
        (edit_config(transformer_layers_per_block=[1, 2, 10]), "must be the same at the two"),
        (edit_config(transformer_layers_per_block=2), "one transformer layer per block"),
        (edit_config(block_out_channels=[16, 32, 48, 64]), "48 channels must be a multiple of level 1's 32"),
        (edit_config(block_out_channels=[16]), "widths of at least 2 levels"),
        (edit_config(block_out_channels=[32, 32, 64, 64]), r"of shape \(16, 4, 3, 3\); its configuration asks"),
        (edit_config(down_block_types=["DownBlock2D"]), "one entry for each of 4 levels; got 1"),
        (edit_config(down_block_types=["AttnDownBlock2D"] * 4), "must be plain or CrossAttn blocks"),
        (edit_weights(lambda s: s.pop(BIAS)), f"lacks '{BIAS}'"),
        (edit_weights(lambda s: s[BIAS].fill_(torch.nan)), f"NaN or infinite numbers in '{BIAS}'"),
    ],
)
def test_what_is_wrong_is_said(folder, spoil, words):
    spoil(folder)
    with pytest.raises(idm.InputError, match=words) as error:
        idm.InvertibleDiffusion.from_stable_diffusion(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"block_channels": (8, 8)}, "block_channels is fixed by the weights"),
        ({"attention": (True,)}, "attention may be switched off"),
        ({"variant": "int8"}, "has no unet/diffusion_pytorch_model.int8.safetensors"),
        ({"steps": 0}, "steps must be"),
    ],
)
def test_options_that_cannot_be_are_refused(saved, config, words):
    with pytest.raises(idm.InputError, match=words):
        idm.InvertibleDiffusion.from_stable_diffusion(saved, **config)


def test_only_the_unets_own_files_are_fetched_from_the_hub(saved, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def fetch(repository, name, revision=None):
        asked.append(name)
        if not (saved / name).is_file():
            raise EntryNotFoundError(name)
        return str(saved / name)

    monkeypatch.setattr("idm_lib.models.unet_files.hf_hub_download", fetch)
    model = idm.InvertibleDiffusion.from_stable_diffusion("owner/name")
    assert asked == ["unet/config.json", f"unet/{WEIGHTS}"]
    here = idm.InvertibleDiffusion.from_stable_diffusion(saved)
    assert torch.equal(model.unet.conv_in.weight, here.unet.conv_in.weight)


def test_out_of_reach_and_nowhere(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(idm.InputError, match="not in the local cache and the hub could not be reached"):
        idm.InvertibleDiffusion.from_stable_diffusion("owner/never-downloaded")
    (tmp_path / "model.ckpt").write_bytes(b"")
    for name in (tmp_path / "model.ckpt", tmp_path / "nothing", "a/b/c"):
        with pytest.raises(idm.InputError, match="there is no Stable Diffusion at"):
            idm.InvertibleDiffusion.from_stable_diffusion(name)

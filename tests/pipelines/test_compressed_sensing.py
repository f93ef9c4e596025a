"""The pipeline: any image in, the model's reconstruction out, and one sentence for what cannot be used."""

import inspect
import json
import types

import numpy as np
import pytest
import torch
from PIL import Image

import idm_lib as idm
from idm_lib.images import luminance, save_image, to_tensor


def model(**changes):
    torch.manual_seed(0)
    size = {"block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "attention_heads": 2}
    return idm.InvertibleDiffusion(steps=2, **size, operator={"seed": 5, "block_size": 8}, **changes).eval()


@pytest.fixture(scope="module")
def pipe():
    pipe = idm.CompressedSensingPipeline(model(), ratio=0.4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pixels(height=12, width=10, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def by_hand(pipe, planes, ratio=0.4, permutation_seed=5):
    """What the pipeline stands for: measure each channel, run the model, clamp."""
    op = idm.BlockCS(planes.shape[-2:], ratio, block_size=8, seed=5, permutation_seed=permutation_seed)
    with torch.no_grad():
        return pipe.model(op.A(planes), op).clamp(0, 1), op.A(planes)


def test_every_kind_of_image_gives_what_the_model_gives(pipe, tmp_path):
    rgb = pixels()
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    expected, y = by_hand(pipe, to_tensor(rgb))  # (3, 1, H, W)
    floats = rgb.astype(np.float32) / 255
    for image in (
        Image.fromarray(rgb),
        rgb,
        rgb.astype(np.uint16) * 257,
        floats,
        (rgb.astype(np.uint16) * 257).astype(">u2"),  # as TIFF's and FITS's readers give them
        floats.astype(">f4"),
        floats.astype(">f8"),
        floats.astype(np.longdouble),
        torch.from_numpy(floats).permute(2, 0, 1),
        torch.from_numpy(rgb).permute(2, 0, 1)[None],
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        [Image.fromarray(rgb)],
    ):
        out = pipe(image, output_type="pt")
        assert out.images.shape == (1, 3, 12, 10)
        assert torch.allclose(out.images[0], expected[:, 0], atol=1e-5)
        assert torch.allclose(out.measurements[0], y, atol=1e-5)
        assert out.predicted is None


def test_luminance_and_grey(pipe):
    rgb = pixels()
    expected, _ = by_hand(pipe, to_tensor(luminance(rgb)))
    out = pipe(rgb, colour=False, output_type="pt").images
    assert torch.allclose(out[0], expected[0], atol=1e-5)
    floats = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)
    close = pipe(floats, colour=False, output_type="pt").images
    assert (out - close).abs().max() < 0.05, "luminance of floats is not rounded to 8 bits"
    grey = pipe(pixels(channels=0), output_type="pil").images[0]
    assert grey.mode == "L"
    assert grey.size == (10, 12)


def test_output_types_show_the_same_picture(pipe):
    images = [pixels(seed=1), pixels(seed=2)]
    pt, arrays, pil = (pipe(images, output_type=kind).images for kind in ("pt", "np", "pil"))
    assert arrays.shape == (2, 12, 10, 3)
    assert np.array_equal(arrays, pt.permute(0, 2, 3, 1).numpy())
    assert [image.mode for image in pil] == ["RGB", "RGB"]
    assert np.array_equal(np.asarray(pil[1]), (arrays[1] * 255).round().astype(np.uint8))


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_a_batch_is_its_images_one_by_one(pipe, batch_size):
    images = [pixels(seed=1), pixels(seed=2), pixels(8, 20, 0, seed=3), pixels(8, 20, 0, seed=4), pixels(seed=5)]
    together = pipe(images, seed=[3, 9, 9, 4, 4], batch_size=batch_size, output_type="pt")
    assert [len(ys) for ys in together.measurements] == [3, 3, 1, 1, 3]
    for i, number in enumerate((3, 9, 9, 4, 4)):
        alone = pipe(images[i], seed=number, output_type="pt")
        assert torch.allclose(together.images[i], alone.images[0], atol=1e-5)
        assert together.operators[i].permutation_seed == number


def test_measurements_in_image_out(pipe):
    first = pipe([pixels(seed=1), pixels(seed=2)], seed=[8, 9], output_type="pt")
    again = pipe(y=first.measurements, image_size=(12, 10), seed=[8, 9], output_type="pt")
    assert torch.allclose(again.images, first.images, atol=1e-5)
    one = pipe(y=first.measurements[1:], operator=first.operators[1], output_type="pt")
    assert torch.allclose(one.images[0], first.images[1], atol=1e-5)
    grey = pipe(y=first.measurements[:1, 0], operator=first.operators[0], output_type="pt")
    assert torch.allclose(grey.images[0, 0], first.images[0, 0], atol=1e-5)
    each = idm.BlockCS((12, 10), 0.4, 8, 5, permutation_seed=[8, 9])
    both = pipe(y=first.measurements, operator=each, output_type="pt")
    assert torch.allclose(both.images, first.images, atol=1e-5)


class Halves(idm.LinearOperator):
    """Any operator: every other pixel."""

    def A(self, x):
        return x.flatten(1)[:, ::2]

    def A_adjoint(self, y):
        x = y.new_zeros(len(y), 80)
        x[:, ::2] = y
        return x.reshape(len(y), 1, 8, 10)

    A_dagger = A_adjoint


def test_any_operator_will_do(pipe):
    image = pixels(8, 10)
    out = pipe(image, operator=Halves(), output_type="pt")
    with torch.no_grad():
        expected = pipe.model(Halves().A(to_tensor(image)), Halves()).clamp(0, 1)
    assert torch.allclose(out.images[0], expected[:, 0], atol=1e-5)
    noisy = idm.BlockCS((8, 10), 0.5, 8, noise_std=0.1)
    measured = pipe(image, operator=noisy, output_type="pt").measurements[0]
    error = measured - noisy.A(to_tensor(image))
    assert 0.05 < float(error.std()) < 0.2


def test_permutations_come_from_the_generator(pipe):
    images = [pixels(seed=1)] * 2

    def drawn(generator):
        return [op.permutation_seed for op in pipe(images, generator=generator, output_type="pt").operators]

    first = drawn(torch.Generator().manual_seed(1))
    assert first == drawn(torch.Generator().manual_seed(1))
    assert first[0] != first[1]
    assert first != drawn(torch.Generator().manual_seed(2))
    assert (
        drawn([torch.Generator().manual_seed(3) for _ in images])
        == [drawn([torch.Generator().manual_seed(3), torch.Generator()])[0]] * 2
    )
    assert drawn(None) == [5, 5], "the operator's own seed"


def test_quality_is_predicted_from_what_is_held_back(pipe):
    images = [pixels(24, 24, seed=1), pixels(24, 24, seed=2)]
    out = pipe(images, hold=0.1, output_type="pt")
    assert len(out.predicted) == 2
    for quality, found, image in zip(out.predicted, out.images, images, strict=True):
        mse = (found[:, None] - to_tensor(image)).square().mean()
        assert quality.samples == 32
        assert quality.low < float(-10 * mse.log10()) < quality.high


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_models_precision_is_followed(dtype):
    pipe = idm.CompressedSensingPipeline(model(), ratio=0.4)
    pipe.set_progress_bar_config(disable=True)
    single = pipe(pixels(), output_type="pt").images
    out = pipe.to(dtype)(pixels(), output_type="pt")
    assert pipe.model.dtype == dtype
    assert out.images.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (out.images - single).abs().max() < (1e-4 if dtype == torch.float64 else 0.1)


@pytest.mark.gpu
def test_on_a_gpu():
    pipe = idm.CompressedSensingPipeline(model(), ratio=0.4)
    here = pipe(pixels(), output_type="pt").images
    there = pipe.to("cuda")(pixels(), output_type="pt").images
    assert there.is_cuda
    assert (there.cpu() - here).abs().max() < 1e-2


def test_progress_counts_images(capfd):
    pipe = idm.CompressedSensingPipeline(model())
    pipe.set_progress_bar_config(disable=False)  # whatever TQDM_DISABLE says
    pipe([pixels()] * 3, batch_size=1)
    assert "3/3" in capfd.readouterr().err
    pipe.set_progress_bar_config(disable=True)
    pipe([pixels()] * 3)
    assert "3/3" not in capfd.readouterr().err


def test_a_tuple_if_asked_for(pipe):
    images, measurements, operators, predicted = pipe(pixels(), return_dict=False)
    assert isinstance(images[0], Image.Image)
    assert measurements.shape[:2] == (1, 3)
    assert len(operators) == 1
    assert predicted is None


def test_older_diffusers_read_the_signature():
    """Before 0.37 from_pretrained knows classes and Union, and ends in a KeyError at any ``int | None``."""
    for name, parameter in inspect.signature(idm.CompressedSensingPipeline.__init__).parameters.items():
        assert not isinstance(parameter.annotation, types.UnionType), name


def test_round_trip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    assert not list((tmp_path / "pipe").rglob("*.bin"))
    loaded = idm.CompressedSensingPipeline.from_pretrained(tmp_path / "pipe")
    assert {k: loaded.config[k] for k in ("ratio", "block_size", "seed")} == {
        "ratio": 0.4,
        "block_size": 8,
        "seed": 5,
    }
    assert not loaded.model.training
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in pipe.model.state_dict().items())
    loaded.set_progress_bar_config(disable=True)
    ours, theirs = (p(pixels(), output_type="pt").images for p in (pipe, loaded))
    assert torch.allclose(ours, theirs, atol=1e-5)
    other = idm.CompressedSensingPipeline.from_pretrained(tmp_path / "pipe", ratio=0.2).to(torch.float64)
    assert other.model.dtype == torch.float64
    assert other.config.ratio == 0.2


def test_half_precision_files_are_computed_with_in_full(tmp_path):
    idm.CompressedSensingPipeline(model()).to(torch.bfloat16).save_pretrained(tmp_path)
    assert idm.CompressedSensingPipeline.from_pretrained(tmp_path).model.dtype == torch.float32


def test_a_models_folder_becomes_a_pipeline(tmp_path):
    model().save_pretrained(tmp_path)
    pipe = idm.CompressedSensingPipeline.from_pretrained(tmp_path, ratio=0.3)
    assert pipe.config.ratio == 0.3
    assert pipe.config.seed == 5, "what the model was trained on"


def edit_index(**changes):
    def spoil(folder):
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "model_index.json").unlink(), "has no model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), "is not the index of a CompressedSensingPipeline"),
        (edit_index(_class_name="DDPMPipeline"), "holds a DDPMPipeline, not a CompressedSensingPipeline"),
        (edit_index(model=["os", "system"]), r"names os.system as its model; expected an InvertibleDiffusion"),
        (edit_index(model=["pirates", "InvertibleDiffusion"]), r"names pirates.InvertibleDiffusion"),
        (edit_index(ratio=3), r"ratio must lie in \(0, 1\]"),
        (lambda f: (f / "model" / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
        (lambda f: (f / "model" / WEIGHTS).write_bytes(b"?"), "is broken"),
        (lambda f: (f / "model").rename(f / "elsewhere"), "has no folder model/"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(pipe, tmp_path, spoil, words):
    pipe.save_pretrained(tmp_path / "pipe")
    spoil(tmp_path / "pipe")
    with pytest.raises(idm.InputError, match=words) as error:
        idm.CompressedSensingPipeline.from_pretrained(tmp_path / "pipe")
    assert "\n" not in str(error.value)


OP = {"operator": idm.BlockCS((12, 10), 0.4, 8, 5)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give an image to measure or measurements y"),
        ({"image": pixels(), "y": torch.zeros(1, 49)}, "and not both"),
        ({"image": []}, "empty list"),
        ({"image": 3}, "image must be a path, PIL image.*got int"),
        ({"image": "nowhere.png"}, "nowhere.png does not exist"),
        ({"image": pixels(channels=2)}, r"with C = 1 or 3; got \(1, 12, 10, 2\)"),
        ({"image": torch.zeros(1, 2, 8, 8)}, r"got \(1, 2, 8, 8\)"),
        ({"image": np.zeros((0, 8))}, "an image must have shape"),
        ({"image": np.full((8, 8), 200.0)}, r"must lie in \[0, 1\]; got 200 to 200"),
        ({"image": np.full((8, 8), np.nan)}, "must be finite"),
        ({"image": np.zeros((8, 8), np.int64)}, "must be uint8 or uint16; got torch.int64"),
        ({"image": np.full((8, 8), "a")}, "must hold numbers"),
        ({"image": pixels(), "ratio": 0}, r"ratio must lie in \(0, 1\]"),
        ({"image": pixels(), "output_type": "latent"}, "output_type must be one of pil, np, pt; got 'latent'"),
        ({"image": pixels(), "hold": 1}, r"hold must lie in \[0, 1\)"),
        ({"image": pixels(), "batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"image": pixels(), "image_size": (12, 10)}, "an image has its own size"),
        ({"image": pixels(), "seed": [1, 2]}, "seed must be one number, or one for each of 1 images; got 2"),
        ({"image": pixels(), "seed": -1}, "permutation_seed must be a whole number"),
        ({"image": pixels(), "seed": 1, "generator": torch.Generator()}, "and not both"),
        ({"image": pixels(), "generator": [torch.Generator()] * 2}, "one for each of 1 images"),
        ({"image": pixels(), "generator": 7}, "generator must be one torch.Generator"),
        ({"image": pixels(), "operator": 7}, "must have A, A_adjoint and A_dagger; got a int"),
        ({"image": pixels(), "ratio": 0.3, **OP}, "the operator fixes ratio"),
        ({"image": pixels(9, 9), **OP}, r"x must have shape \(B, 1, 12, 10\)"),
        ({"image": pixels(8, 10), "operator": Halves(), "hold": 0.1}, "only measurements of a BlockCS"),
        ({"y": torch.zeros(1, 49)}, "need the operator that took them"),
        ({"y": torch.zeros(1, 49), "image_size": (0, 5)}, "image_size must be"),
        ({"y": torch.zeros(1, 9), **OP}, r"y must have shape \(B, 49\); got \(1, 9\)"),
        ({"y": torch.zeros(49), **OP}, r"shape \(B, M\) or \(B, C, M\); got \(49,\)"),
        ({"y": torch.zeros(1, 2, 49), **OP}, "C = 1 channel or 3"),
        ({"y": [0.0] * 49, **OP}, r"shape \(B, M\) or \(B, C, M\); got list"),
        ({"y": torch.full((1, 49), torch.nan), **OP}, "y must be finite"),
    ],
)
def test_what_cannot_be_used_is_refused(pipe, arguments, words):
    with pytest.raises(idm.InputError, match=words) as error:
        pipe(**arguments)
    assert "\n" not in str(error.value)


def test_numbers_of_no_operator_are_refused_at_once():
    for numbers in ({"ratio": 2}, {"block_size": 0}, {"seed": -1}):
        with pytest.raises(idm.InputError):
            idm.CompressedSensingPipeline(model(), **numbers)


def test_a_model_that_fails_is_named(pipe):
    broken = model()
    broken.chain.m.data.fill_(torch.nan)
    with pytest.raises(idm.InputError, match="NaN or infinite pixels"):
        idm.CompressedSensingPipeline(broken)(pixels())


def test_an_image_can_be_saved(pipe, tmp_path):
    out = pipe(pixels(), output_type="pt").images[0]
    save_image(tmp_path / "x.png", out[:, None])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), np.asarray(pipe(pixels()).images[0]))

"""The exported graphs are the model: the same numbers in ONNX Runtime, at every ratio."""

import re
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

import idm_lib as idm
from idm_lib.errors import InputError
from idm_lib.export import MaskedBlocks, export, page, scripts
from idm_lib.export.choices import choices
from idm_lib.export.convert import RULES, to_onnx
from idm_lib.export.exported import percents_within
from idm_lib.export.operator import operator_arrays
from idm_lib.export.step import Program
from idm_lib.notebook.photos import photo
from idm_lib.operators import hold_back

SIZE = (64, 96)


@pytest.fixture(scope="module")
def model():
    return idm.InvertibleDiffusion.from_pretrained("tiny").eval()


@pytest.fixture(scope="module")
def exported(model):
    return export(model, SIZE)


def _session(file: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _filled(op: idm.BlockCS, y: torch.Tensor, kept: torch.Tensor, columns: int) -> dict[str, torch.Tensor]:
    """y and the mask as the graphs want them."""
    blocks, rows = y.shape[1] // op._q, op._q
    chosen = torch.zeros(y.shape[1])
    chosen[kept] = 1
    mask, values = torch.zeros(2, blocks, columns)
    mask[:, :rows] = chosen.reshape(blocks, rows)
    values[:, :rows] = (y[0] * chosen).reshape(blocks, rows)
    return {"y": values.reshape(1, -1), "mask": mask.reshape(1, -1)}


def _run(exported, given: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """The image after each step."""
    settings = exported.settings
    start, step = _session(exported.start), _session(exported.step)
    fixed = {name: value.numpy() for name, value in (given | exported.arrays).items() if name != "held"}
    x = np.full((1, 1, *SIZE), settings["image_mean"], dtype=np.float32)
    for _ in range(settings["iterations"]):
        (x,) = start.run(None, {"x": x, **fixed})
    x1, x2, images = x, x * np.float32(settings["double"]), []
    for index in reversed(range(settings["steps"])):
        x1, x2, image = step.run(None, {"x1": x1, "x2": x2, "step": np.array([index], np.int32), **fixed})
        images.append(image)
    return images


@pytest.mark.parametrize("ratio", [0.01, 0.04, 0.1, 0.25, 0.5])
def test_one_export_equals_the_model_at_every_ratio(model, exported, ratio):
    x = photo("camera", 128)[..., 20:84, 10:106]
    op = idm.BlockCS(SIZE, ratio)
    kept, _ = hold_back(op)
    y = op.A(x)
    with torch.no_grad():
        expected = model(y[:, kept.indices], kept).numpy()
    images = _run(exported, _filled(op, y, kept.indices, exported.settings["columns"]))
    assert len(images) == model.config.steps
    np.testing.assert_allclose(images[-1], expected, atol=1e-4)
    assert np.abs(images[0] - expected).max() > 1e-2  # the steps in between are other images


@pytest.mark.parametrize("config", [{"free_steps": True}, {"divergence": False}], ids=["free u", "no divergence"])
def test_a_chain_that_is_wired_or_scheduled_otherwise_is_exported_too(config):
    prior = idm.Denoiser.from_pretrained("prior-tiny")
    model = idm.InvertibleDiffusion.from_prior(prior, steps=2, start="wavelets", **config).eval()
    with torch.no_grad():
        for i, u in enumerate(model.chain.u or ()):
            u.add_(0.03 * (i + 1))
    op, x = idm.BlockCS(SIZE, 0.25), photo("camera", 128)[..., 20:84, 10:106]
    exported = export(model, SIZE)
    images = _run(exported, _filled(op, op.A(x), torch.arange(op.measurements), exported.settings["columns"]))
    with torch.no_grad():
        np.testing.assert_allclose(images[-1], model(op.A(x), op).numpy(), atol=1e-4)


def test_the_exported_step_needs_no_more_bytes_than_the_shipped_weights(model, exported):
    weights = sum(p.numel() for p in model.parameters()) * 2  # float16, as shipped
    assert weights < len(exported.step) < 1.1 * weights


def test_masked_blocks_are_the_operator():
    arrays, op = operator_arrays(SIZE, 32, 0), idm.BlockCS(SIZE, 0.2)
    x = torch.rand(1, 1, *SIZE)
    given = _filled(op, op.A(x), torch.arange(op.measurements), arrays["phi"].shape[1])
    masked = MaskedBlocks(**arrays, mask=given["mask"], image_size=SIZE)
    assert float(masked.true_ratio) == pytest.approx(op.true_ratio)
    torch.testing.assert_close(masked.A(x), given["y"] * masked.scale)
    torch.testing.assert_close(masked.A_adjoint(masked.A(x)), op.A_adjoint(op.A(x)))
    torch.testing.assert_close(masked.A(x).square().mean(), op.A(x).square().mean())


def _compare(function, *tensors: torch.Tensor) -> None:
    """The function in ONNX Runtime and in PyTorch."""
    inputs = {f"in{i}": tensor for i, tensor in enumerate(tensors)}
    expected = function(*tensors)
    program = Program(function, inputs, {}, [f"out{i}" for i in range(len(expected))])
    found = _session(to_onnx(program, "test")).run(None, {name: value.numpy() for name, value in inputs.items()})
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


OPERATIONS = {
    "arithmetic": lambda a, b: (a + b, a - 2, 3 - a, a * b, a / (b.abs() + 1), a.pow(2), a.abs().pow(1.5)),
    "bounds": lambda a, b: (a.clamp(-0.5, 0.5), a.clamp(min=0.1), a.clamp_min(0.2), a.clamp(-b.abs(), b.abs())),
    "sums": lambda a, b: (a.mean(dim=(1, 3)), a.sum(), a.mean(dim=2, keepdim=True), (a >= b).float()),
    "rolls": lambda a, b: (a.roll(-3, 3), a.roll(5, 2), a.roll((1, 2), (2, 3)), b.roll(8, 3)),
    "layout": lambda a, b: (a.permute(0, 2, 3, 1), a.transpose(1, 3), a.flatten(1), torch.cat([a, b], 1), a[:, 1]),
    "parts": lambda a, b: (*a.split(3, dim=3), *b[0].unbind(0)[:2], a.repeat(1, 2, 1, 1), a[:, :1].expand_as(b)),
    "pixels": lambda a, b: (
        torch.nn.functional.pixel_shuffle(a, 2),
        torch.nn.functional.pixel_unshuffle(a, 2),
        torch.nn.functional.interpolate(b, scale_factor=2.0, mode="nearest"),
        torch.nn.functional.pad(a, (1, 2, 0, 3), value=0.5),
    ),
    "grids": lambda a, b: (
        torch.ops.aten._unsafe_index(a, [None, None, torch.arange(4)[:, None] + 2, 3 - torch.arange(4)]),
        torch.ops.aten._unsafe_index(
            b, [None, torch.arange(2)[:, None, None] + 1, 4 - torch.arange(5)[:, None], torch.arange(3) * 2]
        ),
    ),
    "layers": lambda a, b: (
        torch.nn.functional.group_norm(a, 2, b[0, :, 0, 0], b[0, :, 1, 1]),
        torch.nn.functional.silu(a),
        torch.nn.functional.conv2d(a, b[:, :, :3, :3], stride=2, padding=1),
    ),
    "matrices": lambda a, b: (a[0, 0] @ b[0, 1].T, torch.baddbmm(a[0, :, :1, :1], a[0], b[0].mT)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_mean_the_same_in_onnx(name):
    generator = torch.Generator().manual_seed(1)
    _compare(OPERATIONS[name], *(torch.randn(1, 4, 6, 8, generator=generator) for _ in range(2)))


@pytest.mark.parametrize("where", ["__kk", "_|_k", "_k"], ids=["a diagonal", "a gap", "too few"])
def test_indices_that_are_no_grid_are_refused(where):
    def function(a):
        k = torch.arange(3)
        return (torch.ops.aten._unsafe_index(a, [{"_": None, "k": k, "|": k[:, None]}[each] for each in where]),)

    with pytest.raises(NotImplementedError, match="no grid"):
        _compare(function, torch.zeros(1, 8, 8, 8))


def test_an_operation_without_a_rule_is_named():
    assert torch.ops.aten.erfinv.default not in RULES
    program = Program(lambda a: (a.erfinv(),), {"a": torch.zeros(2)}, {}, ["out"])
    with pytest.raises(InputError, match=r"aten\.erfinv\.default has no rule"):
        to_onnx(program, "test")


def test_models_and_sizes_that_do_not_fit_are_refused(model):
    with pytest.raises(InputError, match="whole number of blocks"):
        export(model, (40, 40))
    paper = idm.InvertibleDiffusion.named("tiny", schedule="paper", noise_channels=0, start="grey")
    with pytest.raises(InputError, match="can be exported"):
        export(paper, SIZE)


def test_choices_are_what_the_library_would_hold_back():
    found, held = choices(SIZE, 32, [0.03, 0.1, 0.5])
    for choice in found:
        op = idm.BlockCS(SIZE, choice["ratio"])
        _, expected = hold_back(op)
        assert choice["rows"] * 6 == op.measurements
        assert held[slice(*choice["held"])].tolist() == expected.indices.tolist()
        large, small = choice["factors"]
        assert large > 1 > small


def test_a_page_holds_what_it_runs_and_asks_for_nothing(exported):
    text = page(exported, {"x": (torch.rand(1, 1, *SIZE), 'a "quoted" <thing>')}, "A title & more")
    assert "A title &amp; more" in text
    assert "a &quot;quoted&quot; &lt;thing&gt;" in text
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](?!data:)", text)
    assert text.count("<script>") == text.count("</script>") == len(scripts(exported)) == 4
    with pytest.raises(InputError, match="at least one photo"):
        page(exported, {}, "no photos")


def test_the_ratios_are_whole_percents_within_the_models():
    assert list(percents_within(0.07, 0.29)) == list(range(7, 30)), "free of floating-point dust"
    assert (percents_within(0.001, 1.0)[0], percents_within(0.001, 1.0)[-1]) == (1, 50)
    assert list(percents_within(0.5, 0.9)) == [50]
    for low, high in ((0.6, 0.9), (0.001, 0.005), (0.101, 0.109)):
        with pytest.raises(InputError, match=f"this one has {low} to {high}"):
            percents_within(low, high)


def test_an_export_says_nothing_of_gradients(model):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Converting a tensor with requires_grad")
        assert model.chain.s.requires_grad
        assert export(model, (32, 32)).settings["double"] == model.chain.s.item()

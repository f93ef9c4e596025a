"""Options for inference: each changes as much as it says, and never the model that it was asked of."""

import itertools
import re

import pytest
import torch
from torch import nn

import idm_lib as idm
from idm_lib.models.compiler import missing_to_compile
from idm_lib.models.tiles import Tiling
from idm_lib.operators import LinearOperator

SMALL = {"block_channels": (8, 16), "norm_groups": 4, "attention_heads": 2, "bottleneck_repeat": 1}
HALF_EPS = {torch.bfloat16: 2**-8, torch.float16: 2**-11}


def lively(model):
    """Every weight that starts at zero drawn at random instead, so that nothing is silent."""
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "i2f" in name or name.endswith(".m"):
            p.data = 0.2 * torch.randn(p.shape, generator=generator)
    return model.eval()


def diffusion(schedule="state-evolution", **changes):
    torch.manual_seed(0)
    noise = 8 if schedule == "state-evolution" else 0
    options = SMALL | {"attention": (False, True), "injectors": (True, True), "steps": 2, "noise_channels": noise}
    return lively(idm.InvertibleDiffusion(schedule=schedule, **options | changes))


def denoiser():
    torch.manual_seed(0)
    return lively(idm.Denoiser(block_channels=(8, 16), norm_groups=4, noise_channels=8))


def problem(height=32, width=32, batch=2, dtype=torch.float32):
    op = idm.BlockCS((height, width), 0.3)
    x = torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return op.A(x.to(dtype)), op


@torch.no_grad()
def change(model, options, y, op):
    """Largest change of any pixel, in units of the image range."""
    return float((idm.optimised(model, options)(y, op) - model(y, op)).abs().max())


class Precisions(LinearOperator):
    """Notes the dtype and the autocast state of every call, and would compute in whatever it is given."""

    def __init__(self, op):
        super().__init__()
        self.op, self.true_ratio, self.seen = op, op.true_ratio, set()

    def note(self, tensor):
        self.seen.add((tensor.dtype, torch.is_autocast_enabled("cpu")))
        return tensor

    def A(self, x):
        return self.op.A(self.note(x))

    def A_adjoint(self, y):
        return self.op.A_adjoint(self.note(y))

    A_dagger = A_adjoint


@pytest.mark.parametrize("schedule", ["paper", "state-evolution"])
@pytest.mark.parametrize("dtype", HALF_EPS)
def test_half_precision_stays_close(dtype, schedule):
    """Within ten units of the half precision's own rounding: two steps of some twenty layers each."""
    y, op = problem(16, 16)
    model = diffusion(schedule)
    off = change(model, idm.InferenceOptions(dtype=dtype), y, op)
    assert 0 < off < 10 * HALF_EPS[dtype]
    assert idm.optimised(model, idm.InferenceOptions(dtype=dtype))(y, op).dtype == torch.float32


@pytest.mark.parametrize("schedule", ["paper", "state-evolution"])
def test_the_operator_is_never_evaluated_in_half_precision(schedule):
    y, op = problem(16, 16)
    watched = Precisions(op)
    idm.optimised(diffusion(schedule), idm.InferenceOptions(dtype=torch.bfloat16))(y, watched)
    assert watched.seen == {(torch.float32, False)}


def test_streams_stay_in_float32_while_convolutions_run_in_half():
    y, op = problem(16, 16)
    ready = idm.optimised(diffusion(), idm.InferenceOptions(dtype=torch.bfloat16))
    seen = {nn.Conv2d: set(), type(ready.unet.network.up_blocks[0].run): set()}
    for module in ready.unet.network.modules():
        if type(module) in seen:
            module.register_forward_hook(
                lambda m, _, out: seen[type(m)].add((out[0] if isinstance(out, tuple) else out).dtype)
            )
    ready(y, op)
    assert list(seen.values()) == [{torch.bfloat16}, {torch.float32}]


def test_channels_last_changes_only_the_order_in_memory():
    y, op = problem()
    model = diffusion()
    options = idm.InferenceOptions(channels_last=True)
    ready = idm.optimised(model, options)
    assert ready.unet.network.up_blocks[0].resnets[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert change(model, options, y, op) < 2e-6
    assert ready(y, op).dtype == torch.float32
    assert ready(y, op).is_contiguous()
    assert change(model.double(), options, y.double(), op) < 1e-13


@pytest.mark.parametrize("schedule", ["paper", "state-evolution"])
@pytest.mark.parametrize("one_pair", [False, True])
def test_without_options_nothing_changes(schedule, one_pair):
    """Runs evaluated by their formula are the chain, to the last digit of float64 but a few."""
    y, op = problem(16, 16, dtype=torch.float64)
    model = diffusion(schedule, one_pair=one_pair).double()
    assert change(model, idm.InferenceOptions(), y, op) < 1e-13


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (5, 31), (30, 7)])
@pytest.mark.parametrize("injectors", [(False, False), (True, True)])
def test_one_tile_that_holds_all_is_the_whole_image(size, injectors):
    y, op = problem(*size, dtype=torch.float64)
    model = diffusion(injectors=injectors).double()
    assert change(model, idm.InferenceOptions(tile=32, overlap=16), y, op) < 1e-13


@pytest.mark.parametrize("size", [(40, 24), (37, 45), (9, 70)])
@pytest.mark.parametrize("injectors", [(False, False), (True, True)])
def test_tiles_are_close_at_any_size(size, injectors):
    """Statistics and attention of a tile are not the image's, but its weights, its operator and its data are."""
    y, op = problem(*size)
    model = diffusion(injectors=injectors)
    ready = idm.optimised(model, idm.InferenceOptions(tile=24, overlap=8))
    found, whole = ready(y, op), model(y, op).detach()
    assert found.shape == whole.shape
    assert 0 < float((found - whole).square().mean()) < 0.1 * float((whole - op.A_dagger(y)).square().mean())
    assert torch.allclose(op.A(found), y, atol=1e-5), "data consistency is that of the whole image"


def test_tiles_of_a_network_that_looks_no_further_than_a_pixel_are_exact():
    """1 × 1 convolutions, no norms, no attention: only cutting, injecting on the whole and blending are left."""
    model = diffusion(attention=(False, False)).double()
    for module in list(model.unet.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
            if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and child.stride == (1, 1):
                child.weight.data[..., [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.weight.data[..., 0, :] = child.weight.data[..., :, 0] = 0  # only the four pixels it halves
    y, op = problem(44, 60, dtype=torch.float64)
    inject = [p for name, p in model.named_parameters() if "i2f.weight" in name]
    assert inject
    assert all(bool(p.abs().sum() > 0) for p in inject)
    assert change(model, idm.InferenceOptions(tile=24, overlap=8), y, op) < 1e-12
    assert change(model, idm.InferenceOptions(tile=24, overlap=0), y, op) < 1e-12


def test_windows_cover_the_plane_and_sum_to_one():
    for height, width, tile, overlap in itertools.product((4, 8, 20, 36), (12, 28), (8, 12), (0, 4)):
        grid = Tiling.over((height, width), tile, overlap)
        assert grid.size == (height, width)
        ones = torch.ones(2, 3, height, width, dtype=torch.float64)
        assert torch.allclose(grid.blend(grid.cut(ones)), ones, atol=1e-14)
        assert all(bool((window > 0).all()) for window in grid.windows(ones))
        steps = [b - a for a, b in itertools.pairwise(grid.lefts)]
        assert all(0 < step <= tile - overlap for step in steps), "neighbours share the overlap at least"


def test_tiles_one_after_another_need_memory_for_one():
    """Counted on the meta device: four times the pixels, no more memory in the network."""
    from idm_lib.memory import measure

    def peak(side, tile):
        ready = idm.optimised(denoiser(), idm.InferenceOptions(tile=tile, overlap=16)).to("meta")
        x = torch.empty(1, 4, side // 2, side // 2, device="meta")
        sigma = torch.empty(1, device="meta")
        with torch.no_grad():
            return measure(lambda: ready.unet(x, sigma)).peak_bytes - x.nbytes

    assert peak(128, None) > 3.9 * peak(64, None)
    assert peak(128, 64) - 3 * 4 * 128 * 128 < 1.05 * peak(64, None)  # and a few planes to blend in


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_is_the_same(backend):
    """Any height and width with one compilation; the default backend where there is what it needs."""
    missing = missing_to_compile(torch.device("cpu")) if backend == "inductor" else []
    if missing:
        pytest.skip(f"torch.compile's default backend needs what is not here: {', '.join(missing)}")
    torch.manual_seed(0)
    model = lively(idm.Denoiser(block_channels=(8,), layers_per_block=1, norm_groups=4, noise_channels=8))
    ready = idm.optimised(model, idm.InferenceOptions(compile=True if backend == "inductor" else backend))
    with torch.no_grad():
        for size in ((16, 16), (20, 34)):
            x = torch.rand(2, 1, *size)
            assert torch.allclose(ready(x, 0.2), model(x, 0.2), atol=2e-6)


def test_what_compiling_needs_is_named(monkeypatch, tmp_path):
    """Before any of it: torch itself would end in a traceback at the first image."""
    model = idm.Denoiser(block_channels=(8,), layers_per_block=1, norm_groups=4, noise_channels=8)
    (tmp_path / "g++").write_text("")
    (tmp_path / "g++").chmod(0o755)
    (tmp_path / "Python.h").write_text("")
    for path, headers, words in (("", tmp_path, "g++"), (tmp_path, tmp_path / "none", "python3-dev")):
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(path))
        monkeypatch.setattr("sysconfig.get_config_var", lambda name, headers=headers: str(headers))
        with pytest.raises(idm.InputError, match=rf"not here: [^,]*{re.escape(words)}\); install it"):
            idm.optimised(model, idm.InferenceOptions(compile=True))
        idm.optimised(model, idm.InferenceOptions(compile="eager"))
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: str(tmp_path))
    assert missing_to_compile(torch.device("cpu")) == []


def test_options_combine():
    y, op = problem(40, 40)
    model = diffusion()
    options = idm.InferenceOptions(dtype=torch.bfloat16, channels_last=True, tile=24, overlap=8)
    tiled = idm.optimised(model, idm.InferenceOptions(tile=24, overlap=8))(y, op)
    found = idm.optimised(model, options)(y, op)
    assert 0 < float((found - tiled).abs().max()) < 10 * HALF_EPS[torch.bfloat16]


def test_the_model_is_left_as_it_was():
    y, op = problem(16, 16)
    model = diffusion().train()
    before = {name: (id(p), p.dtype, p.requires_grad, p.clone()) for name, p in model.named_parameters()}
    modules = {name: type(module) for name, module in model.named_modules()}
    expected = model(y, op).detach()
    options = idm.InferenceOptions(dtype=torch.bfloat16, channels_last=True, tile=16, overlap=8)
    ready = idm.optimised(model, options)
    ready(y, op)
    assert type(ready) is type(model)
    assert not any(p.requires_grad for p in ready.parameters())
    assert model.training
    assert {name: type(module) for name, module in model.named_modules()} == modules
    for name, p in model.named_parameters():
        number, dtype, needs, values = before[name]
        assert (id(p), p.dtype, p.requires_grad) == (number, dtype, needs)
        assert torch.equal(p, values)
    assert torch.equal(model(y, op), expected)


def test_weights_that_need_no_conversion_share_their_memory():
    model = diffusion()
    own = {p.data_ptr() for p in model.parameters()}
    shared = {p.data_ptr() for p in idm.optimised(model, idm.InferenceOptions(tile=16, overlap=8)).parameters()}
    assert shared == own


def test_the_gradient_with_respect_to_y_passes():
    y, op = problem(16, 16, dtype=torch.float64)
    model = diffusion().double()
    y.requires_grad_()
    gradients = [
        torch.autograd.grad(m(y, op).square().sum(), y)[0]
        for m in (model, idm.optimised(model, idm.InferenceOptions()))
    ]
    assert torch.allclose(*gradients, rtol=1e-9)


def test_a_prior_on_tiles_serves_the_solvers():
    from idm_lib.solvers import oamp

    y, op = problem(40, 24, batch=1)
    prior = denoiser()
    found = oamp(y, op, idm.optimised(prior, idm.InferenceOptions(dtype=torch.bfloat16, tile=24, overlap=8))).image
    assert found.dtype == torch.float32
    assert torch.allclose(op.A(found), y, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": torch.float64}, "bfloat16, torch.float16 or None"),
        ({"tile": 0}, "numbers of pixels"),
        ({"tile": 64, "overlap": 64}, "less than tile; got 64 and 64"),
        ({"tile": 64, "overlap": -1}, "numbers of pixels"),
        ({"tile": 30, "overlap": 8}, "multiples of 4 for this network; got 30 and 8"),
        ({"tile": 32, "overlap": 6}, "multiples of 4 for this network; got 32 and 6"),
        ({"compile": True}, "without injectors"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(idm.InputError, match=words):
        idm.optimised(diffusion(), idm.InferenceOptions(**options))


def test_without_a_compiler_compiling_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(idm.InputError, match=r"C\+\+ compiler"):
        idm.optimised(denoiser(), idm.InferenceOptions(compile=True))


def test_only_a_model_as_it_was_made_is_taken():
    ready = idm.optimised(denoiser(), idm.InferenceOptions())
    for other in (ready, nn.Linear(1, 1)):
        with pytest.raises(idm.InputError, match="ReversibleUNet"):
            idm.optimised(other, idm.InferenceOptions())

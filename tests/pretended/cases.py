"""Everything that runs on a GPU, on a pretended one: run by ``test_pretended.py`` in a process of its own."""

import threading

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from kernels import CudaAttention, efficient, flash
from PIL import Image
from pretended import NAME, Device, Pretended, pretend
from safetensors.torch import load_file
from test_conformance import CASES, same_numbers_on
from torch import nn
from torch.utils._pytree import tree_map

import idm_lib as idm
from idm_lib.memory.policy import NAMES
from idm_lib.operators import base, conjugate_gradients
from idm_lib.solvers import get_solver, needs_prior
from idm_lib.training import ChainTask, TrainConfig, loop
from idm_lib.training.checkpoint import save_checkpoint

THERE = pretend()  # before any backward pass: autograd counts devices then

SMALL = {
    "block_channels": (8, 16), "attention": (False, True), "injectors": (True, True), "attention_heads": 2,
    "norm_groups": 4, "layers_per_block": 1, "bottleneck_repeat": 1, "steps": 2,
}  # fmt: skip
MODELS = {
    "paper": SMALL,
    "levels": SMALL | {"noise_channels": 8, "schedule": "levels", "start": "wavelets", "ladder": [0.3, 0.05]},
    "state-evolution": SMALL | {"noise_channels": 8, "schedule": "state-evolution", "start": "wavelets"},
}


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """The mode in which the device is known; its values can be looked at, as a GPU's can."""
    has_values = base.has_values
    for module in (base, conjugate_gradients):
        monkeypatch.setattr(module, "has_values", lambda x: has_values(x) or isinstance(x, Pretended))
    with Device() as device:
        yield device


def here(value):
    return value.cpu() if isinstance(value, Pretended) else value


def relative(found, wanted):
    """The error of one list of tensors, over all, as a share of the other."""
    errors = sum(float((a.cpu() - b.cpu()).square().sum()) for a, b in zip(found, wanted, strict=True))
    return (errors / sum(float(b.cpu().square().sum()) for b in wanted)) ** 0.5


# Of the device itself: a pretence that forgave what a GPU does not would show nothing.


def test_it_mixes_with_nothing_on_the_cpu():
    a = torch.rand(2, 3).to(THERE)
    for stranger in (lambda: a + torch.rand(2, 3), lambda: torch.rand(3, 2) @ a, lambda: torch.cat([a, a.cpu()])):
        with pytest.raises(RuntimeError, match="on one device"):
            stranger()
    with pytest.raises(RuntimeError, match="numpy"):
        a.numpy()
    assert (a * torch.tensor(2.0)).device == a[:, torch.tensor([0, 1])].device == THERE
    assert torch.equal(a.cpu() * 2, (a * 2).cpu())


def test_it_counts_what_is_read(device):
    a = torch.rand(2, 3).to(THERE)
    for read in (lambda: float(a.sum()), lambda: bool((a > 0).all()), a.cpu, lambda: a[0].tolist(), a.nonzero):
        device.reads.clear()
        read()
        assert device.reads.total() == 1
    device.reads.clear()
    (a.clone().mul_(2).softmax(-1) @ a.mT).sum()
    assert not device.reads


def test_its_backward_pass_has_a_thread_of_its_own():
    seen = []
    a = torch.rand(2, 3).to(THERE).requires_grad_()
    a.register_hook(lambda g: seen.append(threading.get_ident()))
    (a * a).sum().backward()
    assert seen != [threading.get_ident()]
    assert torch.equal(a.grad.cpu(), 2 * a.detach().cpu())


def test_autocast_knows_it():
    layer, x = nn.Linear(3, 2).to(THERE), torch.rand(2, 3).to(THERE)
    with torch.autocast(NAME, dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert nn.functional.layer_norm(layer(x), [2]).dtype == torch.float32
    assert layer(x).dtype == torch.float32


# Of the library.


def problem(name):
    """A model in which nothing is silent, an operator, and images (2, 1, 16, 16)."""
    torch.manual_seed(0)
    model = idm.InvertibleDiffusion(**MODELS[name]).train()
    with torch.no_grad():
        for p in model.unet.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model, idm.BlockCS((16, 16), 0.3, block_size=8), torch.rand(2, 1, 16, 16)


def gradients(model, op, x, policy, half=False):
    """The gradients of one training step, and its loss."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
        loss = (model(op.A(x), op, memory=policy) - x).abs().mean()
    loss.backward()
    return [loss.detach()] + [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_is_the_same_there_and_reads_nothing_back(name, device):
    model, op, x = problem(name)
    wanted = gradients(model, op, x, "store")
    model.to(THERE), op.to(THERE)
    x = x.to(THERE)
    for policy in NAMES:
        device.reads.clear()
        found = gradients(model, op, x, policy)
        assert {g.device for g in found} == {THERE}, policy
        assert not device.reads, policy
        assert relative(found, wanted) < 1e-5, policy


@pytest.mark.parametrize("name", MODELS)
def test_a_half_precision_step_reads_the_wiring_once_an_update(name, device):
    model, op, x = problem(name)
    model.to(THERE), op.to(THERE)
    x = x.to(THERE)
    wanted = gradients(model, op, x, "store", half=True)
    for policy in (p for p in NAMES if p != "store"):
        with torch.no_grad():
            for p in model.parameters():  # an update that changes nothing
                p.mul_(1)
        device.reads.clear()
        found = gradients(model, op, x, policy, half=True)
        assert device.reads.total() == 1, (policy, device.reads)
        assert relative(found, wanted) < 0.02, policy
    device.reads.clear()
    gradients(model, op, x, policy, half=True)
    assert not device.reads, "nothing was updated"


@pytest.mark.parametrize("kernel", [flash, efficient])
def test_attention_that_is_kept_is_run_once_by_the_kernels_of_a_gpu(kernel, monkeypatch):
    model, op, x = problem("paper")
    wanted = gradients(model, op, x, "store")
    model.to(THERE), op.to(THERE)
    x = x.to(THERE)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
    ran = {}
    for policy in ("store", "fast", "default", "lean"):
        with CudaAttention() as device:
            found = gradients(model, op, x, policy)
        assert relative(found, wanted) < 1e-5, policy
        ran[policy] = tuple(calls for _, calls in sorted(device.calls.items()))  # forward, backward
    once = ran["store"][0]
    assert ran["store"] == ran["fast"] == ran["default"] == (once, once)
    assert ran["lean"][0] > 2 * once


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"channels_last": True}, {"tile": 16, "overlap": 8}])
def test_inference_waits_for_nothing_but_a_look_at_the_measurements(options, device):
    model, _, _ = problem("levels")
    x, op = torch.rand(2, 1, 32, 32), idm.BlockCS((32, 32), 0.3, block_size=8)
    ready = idm.optimised(model, idm.InferenceOptions(**options))
    with torch.no_grad():
        wanted = ready(op.A(x), op)
        ready.to(THERE), op.to(THERE)
        y = op.A(x.to(THERE))
        device.reads.clear()
        found = ready(y, op)
    assert found.device == THERE
    assert device.reads.total() == 1, "whether the measurements are numbers"
    assert relative([found], [wanted]) < (0.02 if "dtype" in options else 1e-5)


DENSE = {name: case for name, case in CASES.items() if name != "ct"}  # its sparse matrices cannot be pretended


@pytest.mark.parametrize("case", DENSE.values(), ids=DENSE.keys())
def test_an_operator_gives_the_same_numbers_there(case):
    same_numbers_on(THERE, case)


@pytest.mark.parametrize("name", ["pinv", "tv", "ddnm:3", "oamp:3", "pnp:3"])
def test_a_solver_gives_the_same_image_there(name):
    op, x = idm.BlockCS((32, 32), 0.3), torch.rand(2, 1, 32, 32)
    name, _, calls = name.partition(":")
    prior = idm.Denoiser.from_pretrained("prior-tiny").eval() if needs_prior(name) else None
    options = {"iterations": int(calls)} if calls else {}
    here = get_solver(name)(op.A(x), op, prior, **options).image
    op.to(THERE)
    there = get_solver(name)(op.A(x.to(THERE)), op, prior and prior.to(THERE), **options).image
    assert there.device == THERE
    assert relative([there], [here]) < 1e-4


def test_the_pipeline_and_its_prediction_are_the_same_there():
    picture = Image.fromarray((np.random.default_rng(0).random((32, 32)) * 255).astype(np.uint8))
    pipe = idm.CompressedSensingPipeline(idm.InvertibleDiffusion.from_pretrained("tiny").eval(), ratio=0.3)
    pipe.set_progress_bar_config(disable=True)
    here = pipe(picture, hold=0.1, output_type="pt")
    there = pipe.to(THERE)(picture, hold=0.1, output_type="pt")
    assert there.images.device == THERE
    assert relative([there.images], [here.images]) < 1e-4
    assert there.predicted[0].psnr == pytest.approx(here.predicted[0].psnr, abs=1e-3)


@pytest.fixture
def recipe(tmp_path):
    """A training run of a second."""
    for i in range(6):
        Image.fromarray(np.full((20, 24), 20 * (i + 1), np.uint8)).save(tmp_path / f"{i}.png")
    text = f"""
        {{task: chain, name: atom, steps: 4, checkpoint_every: 2, validate_every: 2, log_every: 2, memory: default,
        accumulate: 2, data: {{folder: {tmp_path}, validation: 2, crop: 16, batch: 2}},
        measure: {{low: 0.1, high: 0.5, block_size: 8}}, optimiser: {{lr: 1.0e-3, warmup: 2, ema: 0.5}},
        model: {{block_channels: [8], layers_per_block: 1, norm_groups: 4, attention: [false], steps: 2,
        injectors: [true]}}}}
    """
    (tmp_path / "atom.yaml").write_text(text)
    return tmp_path / "atom.yaml"


def test_training_runs_resumes_and_exports_there(recipe, tmp_path, monkeypatch, device):
    on_the_cpu = loop.train(ChainTask(config := TrainConfig.load(recipe)), config, tmp_path / "here")
    AcceleratorState._reset_state(reset_partial_state=True)  # which knows its device by now
    accelerator, save = loop.Accelerator, idm.InvertibleDiffusion.save_pretrained
    monkeypatch.setattr(PartialState, "default_device", property(lambda self: THERE))
    monkeypatch.setattr(loop, "Accelerator", lambda cpu, **options: accelerator(cpu=False, **options))
    # Storage is what a pretended tensor has not, and files are made of it; a checkpoint is read to the CPU anyway.
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state: save_checkpoint(path, tree_map(here, state)))
    monkeypatch.setattr(idm.InvertibleDiffusion, "save_pretrained", lambda self, folder: save(self.cpu(), folder))
    torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter that is moved stays the optimiser's
    places = []

    class Watched(ChainTask):
        def loss(self, model, x, step, settings, part=slice(None)):
            places.append({x.device, *(p.device for p in model.parameters())})
            if len(places) == 6:  # of steps 1, 2 and 3, two parts each
                raise KeyboardInterrupt
            return super().loss(model, x, step, settings, part)

    with pytest.raises(KeyboardInterrupt):
        loop.train(Watched(config), config, tmp_path / "run")
    final = loop.train(Watched(config), config, tmp_path / "run")
    assert all(place == {THERE} for place in places)
    assert len(places) == 6 + 4, "two steps were resumed from"
    whole = loop.train(ChainTask(config), config, tmp_path / "whole")
    resumed, at_once, wanted = (
        load_file(f / "diffusion_pytorch_model.safetensors") for f in (final, whole, on_the_cpu)
    )
    assert all(torch.equal(resumed[name], at_once[name]) for name in at_once)
    first = ChainTask(config).build().state_dict()
    moved = relative([first[name] for name in wanted], wanted.values())
    assert relative(at_once.values(), wanted.values()) < 0.01 * moved

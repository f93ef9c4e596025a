"""fp16's loss scale: an overflow costs one update, not the run; it is resumed; without a GPU fp16 is refused."""

import dataclasses
import math

import pytest
import torch
from accelerate import Accelerator
from test_loop import Faulty, Stopped, lines, same, stop

import idm_lib as idm
from idm_lib.training import PriorTask, train
from idm_lib.training.checkpoint import load_checkpoint


class OnCPU(Accelerator):
    """What an Accelerator with fp16 is on a GPU, put to work on the CPU: a scaler, and autocast."""

    mixed_precision = "fp16"

    def __init__(self, mixed_precision, cpu):
        super().__init__(mixed_precision="no", cpu=cpu)
        self.native_amp, self.scaler = True, torch.amp.GradScaler("cpu", init_scale=1024.0)


@pytest.fixture
def fp16(monkeypatch):
    monkeypatch.setattr("idm_lib.training.loop.Accelerator", OnCPU)


def overflow(loss):
    loss.register_hook(lambda gradient: gradient * math.inf)
    return loss


def test_an_overflow_costs_one_update(fp16, config, tmp_path):
    final = train(Faulty(config, 3, overflow), config, tmp_path)
    rows = [row for row in lines(tmp_path) if "loss" in row]
    assert [row["loss_scale"] for row in rows] == [1024.0] * 3 + [512.0] * 5
    assert [row["step"] for row in rows if "gradient_norm" not in row] == [4]
    assert all(math.isfinite(row["gradient_norm"]) for row in rows if row["step"] != 4)
    prior = idm.Denoiser.from_pretrained(final)
    assert all(value.isfinite().all() for value in prior.state_dict().values())
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert saved["optimiser"]["state"][0]["step"] == config.steps - 1


def test_the_scale_is_resumed(fp16, config, tmp_path):
    class Cut(Faulty):
        def loss(self, model, x, step, settings, part=slice(None)):
            return stop(None) if step == 6 else super().loss(model, x, step, settings, part)

    whole = train(Faulty(config, 3, overflow), config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(Cut(config, 3, overflow), config, tmp_path / "cut")
    assert same(train(Faulty(config, 3, overflow), config, tmp_path / "cut"), whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_an_interrupt_leaves_no_half_precision_on(fp16, config, tmp_path):
    """Whoever goes on in the same notebook would compute with half-precision copies of weights of then."""
    with pytest.raises(Stopped):
        train(Faulty(config, 3, stop), config, tmp_path)
    assert not torch.is_autocast_enabled("cpu")


def test_what_no_scale_cures_stops_the_run(fp16, config, tmp_path):
    class Always(PriorTask):
        def loss(self, *words):
            return overflow(super().loss(*words))

    config = dataclasses.replace(config, steps=30, checkpoint_every=2)
    with pytest.raises(idm.InputError, match=r"step 10 gave loss .* and gradient norm (nan|inf)"):  # 1024 = 2 ** 10
        train(Always(config), config, tmp_path)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_a_loss_that_is_no_number_stops_it_at_once(fp16, config, tmp_path):
    with pytest.raises(idm.InputError, match="step 3 gave loss nan"):
        train(Faulty(config, 3, lambda loss: loss * math.nan), config, tmp_path)


def test_without_a_gpu_fp16_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(idm.InputError, match="precision fp16 needs a GPU"):
        train(PriorTask(config), dataclasses.replace(config, precision="fp16"), tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""Training can be stopped at any moment and goes on to the same bits."""

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import idm_lib as idm
from idm_lib.cli import main
from idm_lib.training import PriorTask, TrainConfig, train
from idm_lib.training.checkpoint import load_checkpoint
from idm_lib.training.optimiser import learning_rate, make_optimiser, set_learning_rate

WEIGHTS = "diffusion_pytorch_model.safetensors"


KILLS = """
import os, random, signal, sys, time
import torch
from pathlib import Path
from idm_lib.training import PriorTask, TrainConfig, train

torch.set_num_threads(1)
config = TrainConfig.load(sys.argv[1], ["steps=400", "checkpoint_every=2", "validate_every=100", "log_every=20"])


class Telling(PriorTask):
    # a byte at every step, so that kills fall by steps, however slow the machine is
    def loss(self, *words):
        os.write(told, b".")
        return super().loss(*words)


def child(out):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            train(Telling(config), config, Path(out))
            code = 0
        finally:
            os._exit(code)
    return pid


rng, killed, resumed = random.Random(0), 0, 0
while killed < 20:
    resumed += (Path(sys.argv[2]) / "checkpoint.pt").exists()
    heard, told = os.pipe()
    pid = child(sys.argv[2])
    os.close(told)
    for _ in range(rng.randint(1, 9)):
        assert os.read(heard, 1), "it ended before it was killed"
    time.sleep(rng.uniform(0, 0.02))  # to fall anywhere in a step or a checkpoint
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, "it ended before it was killed"
    os.close(heard)
    killed += 1
told = os.open(os.devnull, os.O_WRONLY)
for out in sys.argv[2:4]:
    assert os.waitpid(child(out), 0)[1] == 0
print(killed, resumed)
"""


class Stopped(Exception):
    """Stands for whatever ends a process."""


class Faulty(PriorTask):
    """The task until step ``at``, where ``fault`` is called with the loss."""

    def __init__(self, config, at, fault):
        super().__init__(config)
        self.at, self.fault = at, fault

    def loss(self, model, x, step, settings, part=slice(None)):
        loss = super().loss(model, x, step, settings, part)
        return self.fault(loss) if step == self.at else loss


def stop(loss):
    raise Stopped


def same(one, other):
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def lines(out):
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """A run that nothing disturbed."""
    config, out = TrainConfig.load(recipe), tmp_path_factory.mktemp("whole")
    train(PriorTask(config), config, out)
    return out


def test_a_run_leaves_what_it_promises(whole, config):
    assert lines(whole)[-1]["step"] == config.steps
    assert {"psnr@0.01", "psnr@1"} <= set(lines(whole)[-1])
    assert (whole / "config.yaml").read_text() == config.to_yaml()
    prior = idm.Denoiser.from_pretrained(whole / "final")
    assert prior(torch.rand(1, 1, 5, 6), 0.1).shape == (1, 1, 5, 6)


def test_stopped_anywhere_it_ends_the_same(whole, config, tmp_path):
    for at in sorted(random.Random(0).sample(range(config.steps), 3)):
        with pytest.raises(Stopped):
            train(Faulty(config, at, stop), config, tmp_path)
    final = train(PriorTask(config), config, tmp_path)
    assert same(final, whole / "final")
    assert lines(tmp_path) == lines(whole)
    weights = (final / WEIGHTS).read_bytes()
    train(PriorTask(config), config, tmp_path)
    assert (final / WEIGHTS).read_bytes() == weights, "a finished run is finished"


def test_killed_outright_it_ends_the_same(recipe, tmp_path):
    words = ["train", "--config", str(recipe), "--set", "steps=60", "--set", "checkpoint_every=5", "--out"]
    code = "import sys; from idm_lib.cli import main; sys.exit(main())"
    child = subprocess.Popen([sys.executable, "-c", code, *words, str(tmp_path / "a")], stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 120
        while not (tmp_path / "a" / "checkpoint.pt").exists() and time.monotonic() < limit:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert load_checkpoint(tmp_path / "a" / "checkpoint.pt")["step"] < 60
    assert main([*words, str(tmp_path / "a")]) == 0
    assert main([*words, str(tmp_path / "b")]) == 0
    assert same(tmp_path / "a" / "final", tmp_path / "b" / "final")


def test_a_full_disk_keeps_the_last_checkpoint(whole, config, tmp_path, monkeypatch):
    real, count = torch.save, []

    def full(state, file):
        count.append(1)
        real(state, file)
        if len(count) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("idm_lib.training.checkpoint.torch.save", full)
        with pytest.raises(idm.InputError, match=r"No space left on device.*the last one is kept"):
            train(PriorTask(config), config, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2
    assert not list(tmp_path.glob("*.part"))
    assert same(train(PriorTask(config), config, tmp_path), whole / "final")


def test_a_loss_that_is_no_number_names_the_step(config, tmp_path):
    with pytest.raises(idm.InputError, match="step 5 gave loss nan"):
        train(Faulty(config, 5, lambda loss: loss * torch.nan), config, tmp_path)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state["step"] == 4
    assert all(bool(value.isfinite().all()) for value in state["model"].values())


def test_a_line_of_the_log_that_was_cut_short_is_dropped(whole, config, tmp_path):
    with pytest.raises(Stopped):
        train(Faulty(config, 5, stop), config, tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    train(PriorTask(config), config, tmp_path)
    assert lines(tmp_path) == lines(whole)


def test_another_runs_folder_is_refused(whole, config):
    other = dataclasses.replace(config, seed=1)
    with pytest.raises(idm.InputError, match="another configuration"):
        train(PriorTask(other), other, whole)


def changed(config, **rules):
    return dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, **rules))


def test_a_run_that_diverged_is_resumed_at_a_lower_rate(config, tmp_path):
    """What the message of a loss that is no number advises; the schedule of rates is then the new one."""
    with pytest.raises(idm.InputError, match=r"the last good checkpoint is kept in .*lower optimiser.lr and resume"):
        train(Faulty(config, 5, lambda loss: loss * torch.nan), config, tmp_path)
    slower = changed(config, lr=config.optimiser.lr / 10, clip=0.5, warmup=1, decay="linear")
    train(PriorTask(slower), slower, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == slower.to_yaml()
    rates = {row["step"]: row["lr"] for row in lines(tmp_path) if "lr" in row}
    assert rates[4] == learning_rate(3, config.steps, config.optimiser)
    assert rates[5] == learning_rate(4, config.steps, slower.optimiser)
    with pytest.raises(idm.InputError, match="another configuration"):
        train(PriorTask(config), config, tmp_path)  # it has ended
    assert (tmp_path / "config.yaml").read_text() == slower.to_yaml()


@pytest.mark.parametrize("rules", [{"ema": 0.9}, {"kind": "adamw"}, {"schedule_lr": 1e-3}, {"hold_schedule": True}])
def test_what_a_run_keeps_to_its_end_cannot_be_changed(config, tmp_path, rules):
    with pytest.raises(Stopped):
        train(Faulty(config, 3, stop), config, tmp_path)
    other = changed(config, lr=1e-5, **rules)
    with pytest.raises(idm.InputError, match="only optimiser's lr, schedule_lr, clip, warmup, decay may change"):
        train(PriorTask(other), other, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == config.to_yaml()


def test_a_folder_with_a_foreign_configuration_is_refused(config, tmp_path):
    for text in (b"a: [", b"- 1", b"\xff", b"steps: 3", b"optimiser: 3"):
        (tmp_path / "config.yaml").write_bytes(text)
        with pytest.raises(idm.InputError, match="another configuration"):
            train(PriorTask(config), config, tmp_path)


def test_a_run_that_fails_at_once_claims_nothing_and_promises_no_checkpoint(config, tmp_path):
    with pytest.raises(idm.InputError, match=r"there is no checkpoint yet; lower optimiser.lr and begin again"):
        train(Faulty(config, 0, lambda loss: loss * torch.nan), config, tmp_path)
    other = dataclasses.replace(config, seed=1, steps=1)
    train(PriorTask(other), other, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == other.to_yaml()


def test_a_run_that_could_not_begin_claims_nothing(config, tmp_path):
    wrong = dataclasses.replace(config, data=dataclasses.replace(config.data, folder=str(tmp_path / "none")))
    with pytest.raises(idm.InputError, match="not a folder"):
        train(PriorTask(wrong), wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(idm.InputError, match="cannot be written to"):
        train(PriorTask(config), config, tmp_path / "file" / "run")


def test_foreign_checkpoints_are_refused(config, tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content, words in (({"step": 3}, "not a checkpoint of this model"), ([1], "not a checkpoint of this model")):
        torch.save(content, path)
        with pytest.raises(idm.InputError, match=words):
            train(PriorTask(config), config, tmp_path)
    path.write_bytes(b"text")
    with pytest.raises(idm.InputError, match="not a checkpoint of this library"):
        train(PriorTask(config), config, tmp_path)


def test_a_model_that_cannot_be_built_is_refused(config):
    for model in ({"colour": "red"}, {"block_channels": 3}):
        with pytest.raises(idm.InputError, match="model must hold arguments of Denoiser"):
            PriorTask(dataclasses.replace(config, model=model)).build()


def test_nothing_held_out_is_allowed(config, tmp_path):
    config = dataclasses.replace(config, steps=1, data=dataclasses.replace(config.data, validation=0))
    train(PriorTask(config), config, tmp_path)
    assert [set(row) >= {"loss"} for row in lines(tmp_path)] == [True]


def test_the_learning_rate_rises_then_falls(config):
    rules, peak = config.optimiser, config.optimiser.lr
    rates = [learning_rate(step, config.steps, rules) for step in range(config.steps)]
    assert rates[:3] == [peak / 2, peak, peak]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert learning_rate(config.steps, config.steps, rules) == pytest.approx(peak / 100)


def test_the_learning_rate_follows_its_rule(config):
    rate = {
        kind: [learning_rate(step, 8, dataclasses.replace(config.optimiser, decay=kind)) for step in (2, 5, 8)]
        for kind in ("cosine", "linear", "constant")
    }
    peak = config.optimiser.lr
    assert rate["constant"] == [peak] * 3
    assert rate["linear"] == pytest.approx([peak, peak * 0.505, peak * 0.01])
    assert rate["cosine"] == pytest.approx(rate["linear"])  # which cross in the middle
    assert learning_rate(3, 8, config.optimiser) > learning_rate(
        3, 8, dataclasses.replace(config.optimiser, decay="linear")
    )


def test_the_rate_of_the_paper_halves_at_four_epochs_of_fifty(config):
    rules = dataclasses.replace(config.optimiser, decay="halving", lr=1e-4, warmup=0)
    epochs = [learning_rate(1000 * epoch, 50_000, rules) for epoch in range(51)]
    expected = [1e-4] * 10 + [5e-5] * 10 + [2.5e-5] * 10 + [1.25e-5] * 10 + [6.25e-6] * 11
    assert epochs == pytest.approx(expected)
    assert learning_rate(9999, 50_000, rules) == 2 * learning_rate(10_000, 50_000, rules)
    warm = dataclasses.replace(rules, warmup=10)
    assert [learning_rate(step, 60, warm) for step in (9, 10, 19, 20)] == pytest.approx([1e-4, 1e-4, 1e-4, 5e-5])


def test_weight_decay_shrinks_what_has_no_gradient(config):
    for kind, decay, kept in (("adam", 0.0, 1.0), ("adamw", 0.5, 1 - 0.1 * 0.5)):
        layer = torch.nn.Module()
        layer.weight = weight = torch.nn.Parameter(torch.ones(()))
        rules = dataclasses.replace(config.optimiser, kind=kind, lr=0.1, weight_decay=decay)
        optimiser = make_optimiser(layer, rules)
        weight.grad = torch.zeros(())
        optimiser.step()
        assert weight.item() == pytest.approx(kept)


def test_a_chains_few_numbers_can_have_a_rate_of_their_own(config):
    model = idm.InvertibleDiffusion.named("tiny", steps=2)
    rules = dataclasses.replace(config.optimiser, lr=1e-4, schedule_lr=1e-2)
    optimiser = make_optimiser(model, rules)
    set_learning_rate(optimiser, 5e-5)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert len(found) == len(rates), "every parameter once"
    few = {name for name in found if name == "weights" or name.startswith("chain.")}
    assert len(few) == 5  # one table; of two links v, and of their run s and m
    assert all(found[name] == pytest.approx(5e-3 if name in few else 5e-5) for name in found)
    assert len(make_optimiser(model, dataclasses.replace(rules, schedule_lr=0.0)).param_groups) == 1


def test_a_batch_in_parts_is_the_same_step(recipe, tmp_path):
    finals = []
    for parts in (1, 2):
        config = TrainConfig.load(recipe, [f"accumulate={parts}"])
        finals.append(load_file(train(PriorTask(config), config, tmp_path / str(parts)) / WEIGHTS))
    for name, whole_batch in finals[0].items():
        torch.testing.assert_close(finals[1][name], whole_batch, rtol=1e-3, atol=1e-5)
    losses = [[row["loss"] for row in lines(tmp_path / part) if "loss" in row] for part in "12"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    config = TrainConfig.load(recipe, ["accumulate=3"])
    with pytest.raises(idm.InputError, match="accumulate must divide the 2 crops"):
        train(PriorTask(config), config, tmp_path / "3")
    assert not (tmp_path / "3").exists()


def test_twenty_kills_change_nothing(recipe, tmp_path):
    """Forked from one process, each run is killed outright at a moment of its own, and the next goes on."""
    script = tmp_path / "kill.py"
    script.write_text(KILLS)
    words = [str(recipe), str(tmp_path / "killed"), str(tmp_path / "calm")]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    killed, resumed = map(int, done.stdout.split()[-2:])
    assert killed == 20
    assert resumed >= 5, "most kills came before the first checkpoint"
    assert same(tmp_path / "killed" / "final", tmp_path / "calm" / "final")
    assert lines(tmp_path / "killed") == lines(tmp_path / "calm")


def test_tensorboard_has_scalars_and_pictures(whole):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(whole / "tensorboard")).Reload()
    assert {"loss", "lr", "psnr@0.1"} <= set(events.Tags()["scalars"])
    assert "crop@0.1" in events.Tags()["images"]
    assert len(events.Images("crop@0.1")) == 2  # steps 4 and 8


def test_the_command(capsys, recipe, folder, tmp_path):
    words = ["train", "--config", str(recipe), "--data", str(folder), "--seed", "3", "--set", "steps=1"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert f"weights: {tmp_path / 'final'}" in capsys.readouterr().out
    assert "seed: 3" in (tmp_path / "config.yaml").read_text()
    assert main(["train", "--config", str(recipe), "--set", "task=poem", "--out", str(tmp_path)]) == 1
    assert "task must be one of prior" in capsys.readouterr().err

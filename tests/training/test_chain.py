"""The chain's task: ratios and permutations by step, losses, fine-tuning from a prior, resumption, two processes."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from test_loop import WEIGHTS, Stopped, lines, same

import idm_lib as idm
from idm_lib.training import ChainTask, TrainConfig, train
from idm_lib.training.checkpoint import load_checkpoint
from idm_lib.training.prior import PriorTask

YAML = """
task: chain
name: atom
start: PRIOR
steps: 6
checkpoint_every: 2
validate_every: 3
log_every: 1
loss: log-mse
memory: default
data: {folder: FOLDER, validation: 2, crop: 16, batch: 2}
measure: {low: 0.1, high: 0.5, block_size: 8}
optimiser: {lr: 1.0e-3, warmup: 2, ema: 0.5}
model: {steps: 2, injectors: [true]}
"""


@pytest.fixture(scope="module")
def recipe(recipe, folder, tmp_path_factory):
    """A fine-tuning run of a second, from a prior of a second."""
    path = tmp_path_factory.mktemp("chain")
    prior = TrainConfig.load(recipe)
    start = train(PriorTask(prior), prior, path / "prior")
    (path / "atom.yaml").write_text(YAML.replace("FOLDER", str(folder)).replace("PRIOR", str(start)))
    return path / "atom.yaml"


@pytest.fixture
def config(recipe):
    return TrainConfig.load(recipe)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    config, out = TrainConfig.load(recipe), tmp_path_factory.mktemp("whole")
    train(ChainTask(config), config, out)
    return out


class Interrupted(ChainTask):
    def loss(self, model, x, step, settings, part=slice(None)):
        if step == 3:
            raise Stopped
        return super().loss(model, x, step, settings, part)


def test_a_run_leaves_a_model_that_knows_what_it_was_trained_on(whole):
    model = idm.InvertibleDiffusion.from_pretrained(whole / "final")
    assert tuple(model.config.ratios) == (0.1, 0.5)
    assert model.config.operator == {"seed": 0, "block_size": 8}
    assert {"psnr@0.1", "psnr@0.3", "psnr@0.5"} <= set(lines(whole)[-1])
    op = idm.BlockCS((9, 14), 0.3, block_size=8)
    assert model(torch.rand(1, op.measurements), op).shape == (1, 1, 9, 14)


def test_what_fits_the_crops_can_be_validated_with(config, tmp_path):
    """Images of 20 × 24 pixels, crops of 18: a factor of 9 fits 18 pixels, and not 16."""
    measure = dataclasses.replace(config.measure, operator={"operator": "SuperResolution", "factor": 9})
    data = dataclasses.replace(config.data, crop=18)
    fits = dataclasses.replace(config, measure=measure, data=data, steps=1)
    fits.model.update({"schedule": "levels"})
    train(ChainTask(fits), fits, tmp_path / "fits")
    assert "psnr" in lines(tmp_path / "fits")[-1]


def test_the_log_watches_inversion_and_the_schedule(whole, config, tmp_path):
    row = next(row for row in lines(whole) if "loss" in row)
    assert 0 < row["drift"] < 1e-4  # float32 blocks, some inverted
    assert {"min_v", "k/1", "k/2", "l/1", "delta/2", "w/1", "v/1", "v/2"} <= set(row)
    stored = dataclasses.replace(config, memory="store", steps=1)
    train(ChainTask(stored), stored, tmp_path)
    assert "drift" not in lines(tmp_path)[0], "nothing was inverted"


def test_every_part_of_the_model_learns(whole, config):
    before, after = ChainTask(config).build(), idm.InvertibleDiffusion.from_pretrained(whole / "final")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        # an injector's i2f starts at zero, so its f2i gets its first gradient one step later
        assert not torch.equal(old, new), name


def test_stopped_it_ends_the_same(whole, config, tmp_path):
    with pytest.raises(Stopped):
        train(Interrupted(config), config, tmp_path)
    assert same(train(ChainTask(config), config, tmp_path), whole / "final")
    assert lines(tmp_path) == lines(whole)


def test_ratio_and_permutation_depend_on_the_step_alone(config):
    one, other = ChainTask(config), ChainTask(config)
    for step in (0, 1, 10**6):
        assert one.operator(step).config() == other.operator(step).config()
    drawn = [one.operator(step) for step in range(200)]
    assert len({op.permutation_seed for op in drawn}) == 200
    assert all(0.1 <= op.ratio <= 0.5 for op in drawn)
    assert sum(op.ratio < 0.05**0.5 for op in drawn) == pytest.approx(100, abs=25)  # ln γ is uniform
    even = ChainTask(dataclasses.replace(config, measure=dataclasses.replace(config.measure, draw="uniform")))
    drawn = [even.operator(step) for step in range(200)]
    assert sum(op.ratio < 0.3 for op in drawn) == pytest.approx(100, abs=25)  # γ is


def test_wiring_scalars_are_led_where_they_should_end(recipe, tmp_path):
    config = TrainConfig.load(recipe, ["optimiser.anneal_v=0.4", "optimiser.ema=0.0", "model.v_steps=0.1"])
    seen = {}

    class Watched(ChainTask):
        def loss(self, model, x, step, settings, part=slice(None)):
            found = super().loss(model, x, step, settings, part)
            seen[step] = [float(v.detach()) for v in settings.chain.v]
            return found

    train(Watched(config), config, tmp_path / "run")
    assert seen == {step: pytest.approx([0.1 + 0.3 * min(1, (step + 1) / 3)] * 2) for step in range(6)}
    with pytest.raises(idm.InputError, match="anneal_v leads"):
        ChainTask(TrainConfig.load(recipe, ["optimiser.anneal_v=0.4", "model.wired_steps=false"]))


def test_a_schedule_that_is_held_stays_as_it_begins(recipe, tmp_path):
    config = TrainConfig.load(recipe, ["optimiser.hold_schedule=true", "optimiser.ema=0.0"])
    before = ChainTask(config).build()
    after = idm.InvertibleDiffusion.from_pretrained(train(ChainTask(config), config, tmp_path / "run"))
    assert torch.equal(after.weights, before.weights)
    assert not any(torch.equal(a, b) for a, b in zip(after.chain.v, before.chain.v, strict=True))
    config = TrainConfig.load(recipe, ["optimiser.ema=0.0"])
    learned = idm.InvertibleDiffusion.from_pretrained(train(ChainTask(config), config, tmp_path / "learned"))
    assert not torch.equal(learned.weights, before.weights)


def test_losses(config):
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    error = torch.tensor([0.1, 0.01, 0.001], dtype=torch.float64)[:, None, None, None].expand(x.shape)
    expected = {"l1": 0.037, "mse": 0.010101 / 3, "log-mse": torch.tensor([1e-2, 1e-4, 1e-6]).log().mean().item()}
    for loss, value in expected.items():
        task = ChainTask(dataclasses.replace(config, loss=loss))
        assert float(task.distance(x + error, x)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss=l3", "loss must be one of"),
        ("memory=huge", "a policy out of"),
        ("measure.low=0.9", "measure needs"),
        ("measure.draw=dice", "measure.draw must be one of"),
        ("optimiser.kind=sgd", "optimiser.kind must be"),
        ("optimiser.decay=steep", "optimiser.decay must be"),
        ("optimiser.weight_decay=0.1", "0 for adam"),
        ("measure.high=2.0", "measure needs"),
        ("optimiser.anneal_v=1.5", "optimiser.anneal_v must lie"),
        ("model.colour=3", "model must hold arguments"),
        ("start=nowhere", "there are no weights at"),
        ("precision=fp8", "precision must be"),
    ],
)
def test_wrong_numbers_are_named(recipe, override, words):
    with pytest.raises(idm.InputError, match=words):
        ChainTask(TrainConfig.load(recipe, [override])).build()


def test_a_batch_that_cannot_be_shared_is_refused():
    from idm_lib.training.loop import _share

    assert _share(8, 1, 2) == slice(4, 8)
    with pytest.raises(idm.InputError, match="must divide into 3 processes"):
        _share(8, 0, 3)


@pytest.mark.parametrize("task", ["chain", "prior"])
def test_two_processes_learn_what_one_learns(task, request, tmp_path):
    """The same global batch, shared by two processes over gloo: one loss curve for fifty steps."""
    config = request.getfixturevalue("recipe")
    if task == "prior":
        config = config.parent / "prior" / "config.yaml"
    settings = ["--set", "steps=50", "--set", "checkpoint_every=50", "--set", "validate_every=50"]
    run = "import sys; from idm_lib.cli import main; sys.exit(main(sys.argv[1:]))"
    train_it = [sys.executable, "-c", run, "train", "--config", str(config), *settings, "--out"]
    shared = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    for command, out in ((train_it, "one"), ([*shared, *train_it], "two")):
        done = subprocess.run(
            [*command, str(tmp_path / out)], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
    one, two = ([row["loss"] for row in lines(tmp_path / out) if "loss" in row] for out in ("one", "two"))
    assert len(one) == 50
    assert two == pytest.approx(one, rel=1e-4)
    assert (tmp_path / "two" / "final" / WEIGHTS).is_file()
    assert json.loads((tmp_path / "two" / "final" / "config.json").read_text())["_class_name"]


def test_every_part_of_a_batch_has_noise_of_its_own(recipe):
    """Parts, one after another or each in a process of its own, are the batch: noise on the measurements included."""
    task = ChainTask(TrainConfig.load(recipe, ["measure.operator={operator: MRI, ratio: 0.5, noise_std: 0.1}"]))
    x = torch.rand(2, 1, 16, 16)
    seen = []

    def model(y, op, memory, drift):
        seen.append(y)
        return op.A_adjoint(y)

    for part in (slice(None), slice(0, 1), slice(1, 2)):
        task.loss(model, x, 0, None, part)
    assert torch.equal(torch.cat(seen[1:]), seen[0])
    op = task.operator(0)
    noise = seen[0] - op.A(x)
    assert float((noise[0] - noise[1]).abs().max()) > 0.1


def test_a_resumed_run_gives_the_schedule_the_rate_of_now(config, tmp_path):
    def with_rates(lr, schedule_lr):
        return dataclasses.replace(
            config, optimiser=dataclasses.replace(config.optimiser, lr=lr, schedule_lr=schedule_lr)
        )

    first, second = with_rates(1e-3, 1e-2), with_rates(1e-4, 5e-4)
    with pytest.raises(Stopped):
        train(Interrupted(first), first, tmp_path)
    train(ChainTask(second), second, tmp_path)
    groups = load_checkpoint(tmp_path / "checkpoint.pt")["optimiser"]["param_groups"]
    assert [group["share"] for group in groups] == [1.0, pytest.approx(5.0)]

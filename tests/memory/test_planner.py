"""The planner: what it says before is what the meter counts of real tensors."""

import pytest
import torch
from torch import nn

import idm_lib as idm
from idm_lib.memory import MemoryPolicy, Problem, fastest_that_fits, plan
from idm_lib.memory.planner import BY_SPEED, GIB, count_forward, count_step
from idm_lib.models.planning import model_config, training_problem

SMALL = {
    "steps": 2, "block_channels": (16, 32), "attention": (False, True), "injectors": (True, True),
    "attention_heads": 2, "norm_groups": 4, "layers_per_block": 1, "bottleneck_repeat": 1,
}  # fmt: skip
CASES = [("default", "amp"), ("fast", "fp32"), ("store", "fp32"), ("lean", "fp64"), ("paper", "amp")]


def small(**changes):
    return training_problem(SMALL | changes, (32, 32))


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_the_plan_is_what_the_meter_counts_of_real_tensors(name, precision):
    policy = MemoryPolicy.named(name)
    planned = plan(small(), policy, 4, precision, micro_batch=2)
    torch.manual_seed(0)
    problem = small()()
    if precision == "fp64":
        problem.model.double()
    real = count_step(problem, policy, 2, precision, passes=2)
    forward = count_forward(problem, 2, precision)
    assert planned.peak_gib * GIB == pytest.approx(real.peak_bytes, rel=0.01)
    assert planned.flops == real.flops
    assert planned.forward_units == pytest.approx(real.flops / 2 / forward.flops)
    size = sum(p.nbytes for p in problem.model.parameters())
    assert planned.persistent_gib * GIB == 4 * size
    assert planned.total_gib * GIB == pytest.approx(3 * size + real.peak_bytes, rel=0.01)
    assert not any(m._forward_pre_hooks for m in problem.model.modules()), "nothing is left behind"


def test_forwards_per_layer_are_those_of_the_policies():
    """3 − k/T: with one step of two kept, 2.5; all kept, 2; none, 3; everything stored, 1."""
    per_layer = {name: plan(small(), MemoryPolicy.named(name), 1, "fp32").forwards_per_layer for name in BY_SPEED}
    assert per_layer == {"store": 1, "fast": 2, "default": 2.5, "lean": 2.5, "least": 2.5, "paper": 3}


def test_the_cure_for_drift_is_counted_apart():
    cured, bare = (plan(small(layers_per_block=3), MemoryPolicy(streams=s), 2, "amp") for s in ("auto", "input"))
    assert cured.drift_cure_gib == pytest.approx(cured.peak_gib - bare.peak_gib)
    assert bare.drift_cure_gib == 0
    assert plan(small(), MemoryPolicy(), 2, "fp32").drift_cure_gib == 0, "full precision needs none"


def test_gradients_that_are_there_already_are_counted():
    """Two micro-batches: the first one's gradients are alive throughout the second."""
    once, twice = (plan(small(), MemoryPolicy.lean(), batch, "fp32", 1) for batch in (1, 2))
    assert twice.peak_gib > once.peak_gib
    assert twice.flops == 2 * once.flops
    assert twice.forward_units == once.forward_units


def test_a_budget_finds_the_fastest_that_fits():
    plans = {name: plan(small(), MemoryPolicy.named(name), 4, "fp32", 1) for name in BY_SPEED}
    flops = [plans[name].flops for name in BY_SPEED]
    assert flops == sorted(flops), "the order in which they are tried"
    name, found = fastest_that_fits(small(), 4, 1000.0, "fp32")
    assert (name, found.micro_batch) == ("store", 4)
    budget = plans["store"].total_gib * 0.999
    name, found = fastest_that_fits(small(), 4, budget, "fp32")
    assert name == next(n for n in BY_SPEED if plans[n].total_gib <= budget)
    assert found.total_gib <= budget
    least = min(p.total_gib for p in plans.values())
    with pytest.raises(idm.InputError, match=f"needs {least:.2f} GiB at least"):
        fastest_that_fits(small(), 4, least * 0.9, "fp32")


def test_any_model_can_be_planned_and_frozen_parameters_have_no_gradients():
    def make():
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
        model[0].requires_grad_(False)
        return Problem(model, lambda batch, policy: model(torch.zeros(batch, 8)).sum())

    found = plan(make, MemoryPolicy(), 3, "fp32")
    assert found.persistent_gib * GIB == 72 * 4 + 4 * 9 * 4
    assert found.forward_units == pytest.approx(1 + (2 * 3 * 8) / (2 * 3 * 8 * 9)), (
        "one product more: the last weight's"
    )


@pytest.mark.parametrize(("given", "words"), [
    ({"precision": "int8"}, "precision out of fp32, amp, fp64, got 'int8'"),
    ({"batch": 0}, "got 0 and 0"),
    ({"batch": 4, "micro_batch": 3}, "got 4 and 3"),
])  # fmt: skip
def test_what_cannot_be_planned_is_refused(given, words):
    with pytest.raises(idm.InputError, match=words):
        plan(small(), MemoryPolicy(), **{"batch": 2} | given)


def test_configurations_by_name(tmp_path):
    assert model_config("sd15") == {}
    (tmp_path / "config.json").write_text('{"_class_name": "InvertibleDiffusion", "steps": 5}')
    assert model_config(tmp_path) == {"steps": 5}
    with pytest.raises(idm.InputError, match="is a Denoiser"):
        model_config("prior-tiny")
    with pytest.raises(idm.InputError, match="no model 'sd16'; expected one of sd15"):
        model_config("sd16")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(idm.InputError, match="not the configuration"):
        model_config(tmp_path)
    with pytest.raises(idm.InputError, match="does not fit this version"):
        training_problem({"colour": 1}, (8, 8))()

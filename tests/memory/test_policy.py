"""Policies: immutable, validated, named."""

import dataclasses
import inspect
import re

import pytest
import torch

import idm_lib as idm
from idm_lib.memory.policy import NAMES
from idm_lib.models.runs import BlockMemory


def test_names_are_the_published_ones_and_differ():
    policies = {name: idm.MemoryPolicy.named(name) for name in NAMES}
    assert set(policies) == {"store", "paper", "least", "lean", "default", "fast"}
    assert len(set(policies.values())) == len(policies)
    assert policies["paper"] == idm.MemoryPolicy("invert", "invert", 0, False)
    assert policies["default"] == idm.MemoryPolicy()
    assert policies["default"].steps == "checkpoint"
    assert policies["default"].blocks == "invert"


def test_policies_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        idm.MemoryPolicy().steps = "store"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": "keep"}, "steps as one of store, checkpoint, invert, got 'keep'"),
        ({"blocks": None}, "blocks as one of"),
        ({"keep_steps": -1}, "keep_steps as a number of steps, got -1"),
        ({"keep_steps": 1.5}, "keep_steps"),
        ({"keep_steps": True}, "keep_steps"),
        ({"keep_steps": "most"}, "got 'most': 0 keeps none, 'all' all"),
        ({"streams": "thin"}, "stream_dtype as a floating dtype"),
        ({"streams": torch.int64}, "stream_dtype as a floating dtype"),
        ({"slices": 0}, "slices as a whole number of at least 1, got 0"),
        ({"slices": True}, "slices"),
        ({"keep_attention": "yes"}, "keep_attention as True or False"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(idm.InputError, match=message):
        idm.MemoryPolicy(**wrong)


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(idm.InputError, match="store, paper, least, lean, default, fast, got 'best'"):
        idm.MemoryPolicy.named("best")


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_how_many_steps_are_kept(steps):
    kept = {name: idm.MemoryPolicy.named(name).kept_steps(steps) for name in NAMES}
    assert kept == {"store": 0, "paper": 0, "least": 1, "lean": 1, "default": 1, "fast": steps}
    assert idm.MemoryPolicy(keep_steps=2).kept_steps(steps) == min(2, steps)
    assert idm.MemoryPolicy(steps="store", keep_steps=2).kept_steps(steps) == 0, "all are stored anyway"


def test_a_policy_may_be_given_by_its_name():
    policy = idm.MemoryPolicy.fast()
    assert idm.MemoryPolicy.of(policy) is policy
    assert idm.MemoryPolicy.of("fast") == policy
    assert idm.MemoryPolicy.of(None) == idm.MemoryPolicy()
    for wrong, message in (("invert", "got 'invert'"), (3, "got int")):
        with pytest.raises(idm.InputError, match=message):
            idm.MemoryPolicy.of(wrong)


@pytest.mark.parametrize("kind", [idm.MemoryPolicy, BlockMemory])
def test_what_can_be_set_is_described_in_one_list_and_in_order(kind):
    text = re.split(r"^(?:Attributes|Args):\n", inspect.getdoc(kind), flags=re.M)[1].partition("\n\n")[0]
    assert re.findall(r"^ {4}(\w+):", text, re.M) == [field.name for field in dataclasses.fields(kind)]

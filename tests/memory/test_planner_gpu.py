"""The planner against a CUDA device: within 5 % of what its allocator saw. Left out, and said so, without a GPU."""

import json
from pathlib import Path

import pytest

from idm_lib.memory import MemoryPolicy, plan
from idm_lib.models.planning import training_problem

RECORD = Path(__file__).parents[2] / "results" / "memory-gpu.json"
CONFIG = {"steps": 3, "block_channels": (128, 256), "injectors": (True, True)}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["store", "default", "lean", "least", "fast", "paper"])
def test_the_plan_is_what_a_gpu_allocates(name):
    from benchmarks.memory import measured_gib

    policy = MemoryPolicy.named(name)
    planned = plan(training_problem(CONFIG, (256, 256)), policy, 4, "amp")
    measured = measured_gib(CONFIG, (256, 256), policy, 4, "amp")
    assert planned.peak_gib == pytest.approx(measured, rel=0.05)


@pytest.mark.skipif(not RECORD.is_file(), reason="no GPU has been measured yet: idm bench memory")
def test_the_recorded_gpu_agrees_with_the_plan():
    rows = [row for row in json.loads(RECORD.read_text())["rows"] if "ratio" in row]
    assert rows
    assert all(abs(row["ratio"] - 1) < 0.05 for row in rows)

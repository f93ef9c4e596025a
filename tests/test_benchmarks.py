"""The benchmarks' own logic, on configurations small enough for a CPU: what they record is what they measured."""

import json

import pytest
import torch

from benchmarks import drift, frontier, gpu
from benchmarks._clock import Budget
from idm_lib.memory import MemoryPolicy, plan
from idm_lib.memory.planner import GIB, count_step
from idm_lib.models.floor import lower_bound
from idm_lib.models.planning import training_problem

SMALL = {
    "steps": 3, "block_channels": (16, 32), "attention": (False, True), "injectors": (True, True),
    "attention_heads": 2, "norm_groups": 4, "layers_per_block": 1, "bottleneck_repeat": 1,
}  # fmt: skip
FULL = {
    "block_out_channels": (16, 32), "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1, "cross_attention_dim": 8,
    "attention_head_dim": 4, "norm_num_groups": 4,
}  # fmt: skip


@pytest.fixture
def small(tmp_path):
    """The folder of a small model's configuration, which stands for its name."""
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "InvertibleDiffusion"} | SMALL))
    return str(tmp_path)


@pytest.mark.parametrize(("name", "micro"), [("paper", None), ("default", 1)])
def test_the_frontier_counts_what_the_planner_plans(small, name, micro):
    (row,) = frontier.Counter(small)([name], 32, 2, 1, micro=micro)
    make = training_problem(SMALL | {"steps": 1}, (32, 32))
    planned = plan(make, frontier.POLICIES[name], 2, "amp", micro)
    for key in ("peak_gib", "persistent_gib", "total_gib", "forward_units"):
        assert row[key] == pytest.approx(getattr(planned, key), rel=1e-12)
    assert row["cure_gib"] == pytest.approx(planned.drift_cure_gib)
    assert row["flops"] == planned.flops
    assert row["counted"]


def made(T, peak, flops, policy="lean"):
    row = {"policy": policy, "steps": T, "batch": 1, "peak_bytes": peak, "flops": flops, "counted": True}
    return frontier.with_gib(row | {"parameter_bytes": 10 + T, "cure_bytes": 0, "forward_flops": 5 * T})


def test_what_follows_from_a_line_is_marked_and_checked():
    counted = [made(1, 7, 10), made(3, 100, 30), made(5, 140, 50), made(10, 240, 100)]
    rows, checks = frontier.follow(counted, "steps", (3, 5), (1, 3, 10, 100))
    assert [(r["steps"], r["counted"]) for r in rows] == [(1, True), (3, True), (5, True), (10, True), (100, False)]
    assert rows[-1]["peak_bytes"] == 100 + 97 * 20
    assert rows[-1]["forward_units"] == 2
    assert rows[-1]["total_gib"] == pytest.approx((3 * 110 + rows[-1]["peak_bytes"]) / GIB)
    assert checks == [{"axis": "steps", "policy": "lean", "at": 10, "misses": {"peak_bytes": 0, "flops": 0}}]


def test_a_line_that_misses_a_counted_point_is_not_followed():
    counted = [made(3, 100, 30), made(5, 140, 50), made(10, 241, 100)]
    rows, checks = frontier.follow(counted, "steps", (3, 5), (3, 10, 100))
    assert [r["steps"] for r in rows] == [3, 5, 10]
    assert checks[0]["misses"]["peak_bytes"] == -1


@pytest.mark.parametrize("batch", [1, 2])
def test_no_policy_goes_below_the_floor(batch):
    """On fake tensors; and the largest part's own cost is that of the real part on real tensors."""
    found = lower_bound(training_problem(SMALL, (32, 32)), batch, "fp32")
    for policy in frontier.POLICIES.values():
        planned = plan(training_problem(SMALL, (32, 32)), policy, batch, "fp32")
        assert planned.total_gib > found.total_gib
    assert found.body_gib > 0
    assert found.total_gib == found.persistent_gib + found.body_gib + found.stream_gib


def test_the_floor_grows_with_the_image_and_the_largest_part_is_named():
    near, far = (lower_bound(training_problem(SMALL, (s, s)), 1, "fp32") for s in (32, 64))
    assert far.persistent_gib == near.persistent_gib
    assert 3.9 * near.body_gib < far.body_gib + 3 * near.body_gib
    problem = training_problem(SMALL, (32, 32))()
    part = dict(problem.model.named_modules())[near.body]
    assert part is not problem.model
    assert count_step(problem, MemoryPolicy.store(), 1, "fp32").peak_bytes / GIB > near.body_gib


def test_drift_rows_tell_a_cure_from_none():
    scene = drift.Scene(16, 0)
    rows = {(r["bodies"], r["streams"]): r for r in scene.chain_rows(10)}
    assert rows["float32", "exact"]["inverse_error"] == 0
    assert rows["float32", "float64"]["inverse_error"] < 1e-6 < rows["float32", "float32"]["inverse_error"]
    assert rows["bfloat16", "exact"]["gradient_error"] == pytest.approx(rows["bfloat16", "exact"]["stored"], rel=1e-3)
    assert drift.kept(float("nan")) is drift.kept(float("inf")) is None


def test_the_gpu_benchmark_says_so_where_there_is_none(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("skipped: ")


def test_the_gpu_benchmark_runs_through_on_a_cpu(small):
    case = gpu.Case("cpu", small, [(2, 32), (1, 32)], "fp32", FULL, (2, 32), ddnm_steps=3, rounds=1, compiled=False)
    found = gpu.record(case, Budget(float("inf")))
    json.dumps(found, allow_nan=False)
    policies = [(row["policy"], row["batch"]) for row in found["training"]]
    assert sorted(policies) == sorted((name, batch) for name in frontier.POLICIES for batch in (1, 2))
    assert policies[0][1] == 1, "the largest case comes last"
    for row in found["training"]:
        assert row["peak_gib"] is None, "a CPU's allocator tells no peak"
        assert row["step_seconds"] > 0
        assert (row["time_ratio"] == 1) == (row["policy"] == "store")
    inference = {(r["model"], r["option"]): r for r in found["inference"]}
    assert inference["tiny", "float32"]["worst_loss_db"] == 0
    assert abs(inference["tiny", "bfloat16"]["worst_loss_db"]) < 1
    assert "psnr" not in inference[small, "bfloat16"], "random weights have no dB"
    calls = {row["method"]: row["network_calls"] for row in found["ddnm"]}
    assert calls == {"ddnm, full U-Net": 3, "idm, pruned U-Net": 3}


def test_what_does_not_fit_and_what_had_no_time_are_recorded_as_such():
    def too_large():
        raise torch.OutOfMemoryError

    found = Budget(60).row({"policy": "store"}, 1, too_large)
    assert found["out_of_memory"]
    assert found["policy"] == "store"
    found = Budget(60).row({"policy": "store"}, 61, too_large)
    assert found == {"policy": "store", "not_measured": "the time budget was spent"}


def test_a_spent_budget_leaves_a_whole_record(small):
    case = gpu.Case("cpu", small, [(1, 32)], "fp32", FULL, (1, 32), ddnm_steps=2, rounds=1, compiled=True)
    found = gpu.record(case, Budget(0))
    rows = [row for key in ("training", "ddnm", "inference") for row in found[key]]
    assert rows
    assert all("not_measured" in row for row in rows)


def test_the_record_is_named_after_the_device():
    assert gpu.slug("NVIDIA A100-SXM4-40GB") == "gpu-nvidia-a100-sxm4-40gb"


def test_known_plans_are_the_counted_ones(monkeypatch):
    row = {"policy": "lean", "batch": 8, "micro_batch": 8, "image_size": 256, "steps": 3, "peak_gib": 7.0}
    record = {"model": "sd15", "steps": [row | {"counted": True}], "batch": [row | {"batch": 16, "counted": False}]}
    monkeypatch.setattr(gpu, "read", lambda name: record)
    assert gpu.known_plans("sd15") == {("lean", 8, 256): 7.0}
    assert gpu.known_plans("tiny") == {}

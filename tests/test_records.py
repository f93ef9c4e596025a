"""What is recorded in results/ meets what the project promises, and says where it comes from."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parent.parent / "results"
RECORDS = sorted(path for path in RESULTS.glob("*.json") if path.stem != "chapters")


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def row(method, ratio, iterations=None):
    (found,) = (
        r
        for r in load("solvers")["rows"]
        if (r["method"], r["ratio"], r["iterations"]) == (method, ratio, iterations)
    )
    return found


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_record_says_where_it_comes_from(path):
    provenance = json.loads(path.read_text())["provenance"]
    assert {"date", "commit", "seed", "versions", "machine"} <= set(provenance)
    assert provenance["versions"]["torch"]


@pytest.mark.parametrize(("ratio", "bar"), [(0.1, 29.0), (0.3, 36.0), (0.5, 40.2)])
def test_oamp_with_the_shipped_prior_passes_its_bar_in_twenty_calls(ratio, bar):
    found = row("oamp", ratio)
    assert found["psnr"] >= bar
    assert max(1, found["network_calls"]) <= 20
    assert found["psnr"] > row("tv", ratio)["psnr"] > row("pinv", ratio)["psnr"]


def test_the_record_is_of_the_weights_that_ship():
    from benchmarks.solvers import weights_hash

    assert load("solvers")["weights"] == weights_hash("prior-tiny")


def test_predicted_psnr_lies_in_its_interval_nine_times_in_ten():
    record = load("solvers")
    cases = record["calibration"]
    inside = sum(case["low"] <= case["actual"] <= case["high"] for case in cases)
    assert inside / len(cases) == pytest.approx(record["coverage"])
    assert inside / len(cases) >= 0.9
    assert len({(case["image"], case["ratio"], case["method"]) for case in cases}) == len(cases) >= 100


def test_the_tuned_settings_are_those_in_force():
    import inspect

    from idm_lib.solvers import ddnm

    rows = [r for r in load("tuning")["rows"] if r["method"] == "ddnm" and r["iterations"] == 100]
    best = max(rows, key=lambda r: r["mean"])
    defaults = {name: p.default for name, p in inspect.signature(ddnm).parameters.items()}
    assert {k: defaults[k] for k in ("sigma_max", "sigma_min", "eta")} == {
        k: best[k] for k in ("sigma_max", "sigma_min", "eta")
    }


def test_half_precision_and_the_order_in_memory_lose_next_to_nothing():
    losses = {r["option"]: r["worst_loss_db"] for r in load("inference")["images"]}
    assert losses["float32, whole image"] == 0
    assert abs(losses["channels last"]) < 0.001
    assert losses["bfloat16"] < 0.05
    assert losses["bfloat16, channels last"] < 0.05


def test_tiles_spare_an_attention_network_most_of_its_memory():
    whole, *tiled = load("inference")["memory"]["sd15"]
    assert all(row["peak_bytes"] < whole["peak_bytes"] / 10 for row in tiled)
    assert all(row["flops"] < whole["flops"] / 2 for row in tiled)


def planned(policy, steps=3, image_size=256):
    (found,) = (
        r
        for r in load("plan")["rows"]
        if (r["model"], r["policy"], r["steps"], r["image_size"]) == ("sd15", policy, steps, image_size)
    )
    assert (found["batch"], found["precision"]) == (8, "amp")
    return found


def test_planned_figures_meet_their_bars():
    default, lean, store = planned("default"), planned("lean"), planned("store")
    assert default["forward_units"] <= 4.0
    assert default["peak_gib"] - default["drift_cure_gib"] <= 9.1
    assert lean["peak_gib"] - lean["drift_cure_gib"] <= 7.9
    assert max(default["drift_cure_gib"], lean["drift_cure_gib"]) <= 1.0
    assert store["peak_gib"] >= 100
    assert planned("lean", steps=10)["peak_gib"] == pytest.approx(lean["peak_gib"], rel=0.03)
    for steps in (1, 3, 10):
        assert planned("default", steps)["forwards_per_layer"] == pytest.approx(3 - 1 / steps)
        assert planned("fast", steps)["forwards_per_layer"] == 2
        assert planned("store", steps)["forwards_per_layer"] == 1


def test_micro_batches_agree_with_the_plan_and_grow_in_memory_alone():
    rows = load("micro-batches")["rows"]
    for name in ("store", "fast", "default"):
        course = sorted((r for r in rows if r["policy"] == name), key=lambda r: r["micro_batch"])
        assert [r["micro_batch"] for r in course] == [1, 2, 4, 8]
        assert {(r["model"], r["image_size"], r["batch"], r["precision"]) for r in course} == {
            ("sd15", 256, 8, "amp")
        }
        totals = [r["total_gib"] for r in course]
        assert totals == sorted(totals)
        assert [r["flops"] for r in course] == pytest.approx([course[0]["flops"]] * 4, rel=0.02)
        assert totals[-1] == pytest.approx(planned(name)["total_gib"], rel=0.03)


def fine_tuned(method, ratio):
    (found,) = (r for r in load("fine-tuned")["rows"] if (r["method"], r["ratio"]) == (method, ratio))
    return found


def test_the_fine_tuned_record_is_of_the_weights_that_ship():
    from benchmarks.solvers import weights_hash

    for name in ("fine-tuned", "robustness"):
        record = load(name)
        assert record["weights"] == weights_hash("prior-tiny")
        assert record["weights of idm:tiny"] == weights_hash("tiny")


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_the_trained_chain_passes_ddnm_and_calls_less_than_oamp(ratio):
    trained, oamp, ddnm = (fine_tuned(m, ratio) for m in ("idm", "oamp", "ddnm"))
    assert trained["psnr"] > ddnm["psnr"] + 1
    assert trained["network_calls"] == 8
    assert ddnm["network_calls"] == 100
    assert 2 * trained["network_calls"] <= oamp["network_calls"]


def test_training_helps_where_little_was_measured():
    for other in ("chain", "oamp"):
        assert fine_tuned("idm", 0.1)["psnr"] > fine_tuned(other, 0.1)["psnr"] + 0.1


def test_a_small_image_takes_less_than_two_seconds():
    for ratio in (0.1, 0.3, 0.5):
        seconds = sorted(r["seconds"] for r in fine_tuned("idm", ratio)["per_image"])
        assert seconds[len(seconds) // 2] < 2  # nine of Set11's eleven images are 256 × 256


def test_the_fine_tuned_model_knows_how_good_it_is():
    cases = [c for c in load("fine-tuned")["calibration"] if c["method"] == "idm"]
    inside = [c["low"] <= c["actual"] <= c["high"] for c in cases]
    assert len(inside) == 33
    assert sum(inside) / len(inside) >= 0.9


def test_the_training_record_is_the_run_beside_the_weights():
    from importlib.resources import files

    folder = files("idm_lib") / "weights" / "tiny"
    log = [json.loads(line) for line in (folder / "training-log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert load("training-tiny")["log"] == log

"""idm plan: JSON with the promised keys, a table, one-line errors."""

import json

import pytest

from idm_lib.cli import main
from idm_lib.models.planning import model_config

SMALL = {
    "_class_name": "InvertibleDiffusion", "steps": 2, "block_channels": [16, 32], "attention": [False, True],
    "injectors": [True, True], "attention_heads": 2, "norm_groups": 4, "layers_per_block": 1, "bottleneck_repeat": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(SMALL))
    return str(folder)


def test_one_policy_as_json(capsys, folder):
    words = [
        "plan",
        "--model",
        folder,
        "--image-size",
        "32",
        "--batch",
        "4",
        "--steps",
        "3",
        "--policy",
        "fast",
        "--json",
    ]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    promised = {"policy", "micro_batch", "peak_gib", "persistent_gib", "forward_units", "flops", "forwards_per_layer"}
    assert promised <= set(report)
    assert (report["policy"], report["micro_batch"], report["steps"]) == ("fast", 4, 3)
    assert report["forwards_per_layer"] == 2
    assert report["flops"] > 0 < report["peak_gib"] < report["total_gib"]


def test_a_budget_as_json_and_one_too_small(capsys, folder):
    words = ["plan", "--model", folder, "--image-size", "24", "40", "--batch", "2", "--precision", "fp32"]
    assert main([*words, "--budget-gib", "100", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["policy"], report["micro_batch"], report["image_size"]) == ("store", 2, [24, 40])
    assert main([*words, "--budget-gib", "1e-6"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no policy fits 1e-06 GiB" in err
    assert err.count("\n") == 1


def test_all_policies_as_a_table(capsys, folder):
    assert main(["plan", "--model", folder, "--image-size", "16", "--batch", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:8]] == ["store", "paper", "least", "lean", "default", "fast"]
    assert "16 × 16" in lines[0]


def test_what_is_offered_can_be_planned(capsys):
    assert main(["plan", "--model", "nope"]) == 1
    offered = capsys.readouterr().err.split("one of ")[1].split(", or a folder")[0].split(", ")
    assert len(offered) == len(set(offered)) >= 3
    assert all(model_config(name)["steps"] for name in offered if name != "sd15")


@pytest.mark.parametrize(("words", "code", "message"), [
    (["--model", "sd16"], 1, "no model 'sd16'; expected one of sd15"),
    (["--model", "prior-tiny"], 1, "is a Denoiser"),
    (["--policy", "magic"], 2, "invalid choice: 'magic'"),
    (["--precision", "int8"], 2, "invalid choice: 'int8'"),
    (["--image-size", "0"], 2, "at least 1"),
    (["--image-size", "1", "2", "3"], 1, "one number or two"),
    (["--batch", "-1"], 2, "at least 1"),
    (["--steps", "0"], 2, "at least 1"),
    (["--budget-gib", "0"], 2, "above 0"),
    (["--budget-gib", "nan"], 2, "above 0"),
    (["--budget-gib", "8", "--policy", "lean"], 2, "not allowed with"),
    (["--budget-gib", "8", "--micro-batch", "1"], 1, "got both"),
    (["--batch", "8", "--micro-batch", "3"], 1, "whole micro-batches"),
])  # fmt: skip
def test_errors_are_one_line(capsys, words, code, message):
    try:
        found = main(["plan", *words])
    except SystemExit as end:
        found = end.code
    assert found == code
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""

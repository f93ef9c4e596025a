"""idm evaluate: the report that benchmarks and readers rely on."""

import json
import shutil

import numpy as np
import pytest
from made_scans import ellipsoid, write_nifti
from PIL import Image

from idm_lib.cli import main

KEYS = ["method", "model", "images", "ratio", "true_ratio", "psnr", "ssim", "seconds_per_image", "network_calls"]


@pytest.mark.parametrize("method", ["pinv", "tv", "ddnm", "oamp"])
def test_the_report(capsys, photos, prior, method):
    words = ["--images", photos, "--ratio", "0.5", "--method", method, "--prior", prior, "--json"]
    code = main(["evaluate", *map(str, words), "--iterations", "1"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert code == 1, "two images of the folder are broken"
    assert err.count("\n") == 2
    assert list(report) == [*KEYS, "per_image"]
    assert report["method"] == method
    assert report["model"] == (str(prior) if method in ("ddnm", "oamp") else None)
    assert report["images"] == len(report["per_image"]) == 6
    assert report["network_calls"] == (1 if report["model"] else 0)
    scores = [row["psnr"] for row in report["per_image"]]
    measured_whole = [row["size"] == [1, 1] for row in report["per_image"]]
    assert all(score is not None or whole for score, whole in zip(scores, measured_whole, strict=True))
    if None in scores:  # an infinite average, and no number in JSON
        assert report["psnr"] is None
    else:
        assert report["psnr"] == pytest.approx(np.mean(scores))


def test_a_fine_tuned_model(capsys, photos, model):
    assert main(["evaluate", "--images", str(photos), "--ratio", "0.5", "--model", str(model), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["method"], report["model"], report["network_calls"]) == ("idm", str(model), 2)


def test_a_perfect_image_leaves_the_json_valid(capsys, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    words = ["evaluate", "--images", str(tmp_path), "--ratio", "1", "--method", "pinv"]
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert "Infinity" not in out
    assert json.loads(out)["psnr"] is None
    assert main(words) == 0
    assert "black.png" in capsys.readouterr().out


def test_folders_of_scans(capsys, tmp_path):
    for name in ("sub-1", "sub-2"):
        (tmp_path / name).mkdir()
        write_nifti(tmp_path / name / "t1.nii.gz", ellipsoid(6, 16))
    words = ["evaluate", "--images", str(tmp_path), "--ratio", "0.5", "--method", "pinv", "--json"]
    for options, slices in (([], [3]), (["--slices", "all"], [1, 2, 3, 4])):
        assert main([*words, *options]) == 0
        rows = json.loads(capsys.readouterr().out)["per_image"]
        assert [row["name"] for row in rows] == [f"sub-{p}/t1.nii.gz#{i}" for p in (1, 2) for i in slices]


def test_folders_that_are_none(capsys, tmp_path, photos):
    assert main(["evaluate", "--images", str(tmp_path / "none"), "--method", "pinv"]) == 1
    assert main(["evaluate", "--images", str(tmp_path), "--method", "pinv"]) == 1
    shutil.copy(photos / "text.png", tmp_path)
    assert main(["evaluate", "--images", str(tmp_path), "--method", "pinv"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert ["not a folder" in lines[0], "holds no image" in lines[1], "text.png" in lines[2]] == [True] * 3

"""idm reconstruct: any photo, any method; what cannot be used is named and the rest done."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_scans import ellipsoid, write_dicom, write_nifti
from PIL import Image

from idm_lib.cli import main
from idm_lib.images import read_pixels

KEYS = {"image", "size", "channels", "method", "model", "ratio", "true_ratio", "measurements", "psnr", "ssim"}
KEYS |= {"predicted_psnr", "seconds", "network_calls", "operator", "reconstruction", "comparison"}


def reconstruct(capsys, *words):
    """Exit code, the JSON that was printed, and the lines on stderr."""
    code = main(["reconstruct", *map(str, words), "--json"])
    out, err = capsys.readouterr()

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return code, json.loads(out, parse_constant=refuse), err.splitlines()


@pytest.mark.filterwarnings("error")
def test_every_kind_of_photo_and_the_broken_ones_named(capsys, photos, tmp_path):
    code, reports, errors = reconstruct(
        capsys, *sorted(photos.iterdir()), "--method", "pinv", "--ratio", "0.5", "--out", tmp_path / "new" / "out"
    )
    assert code == 1
    assert len(errors) == 2
    assert "cut.png is a broken image" in errors[0]
    assert "text.png is not an image" in errors[1]
    assert len(reports) == 6
    for report in reports:
        assert set(report) == KEYS
        shown = read_pixels(report["reconstruction"])
        assert list(shown.shape[:2]) == report["size"]
        assert shown.ndim == (3 if report["channels"] == 3 else 2), "colour is kept"
        assert read_pixels(report["comparison"]).ndim == 3
        name = report["reconstruction"].replace("-reconstruction.png", ".json")
        assert json.loads(Path(name).read_text(encoding="utf-8")) == report
        predicted = report["predicted_psnr"]
        assert (predicted is None) == (report["measurements"] // report["channels"] < 8)
        if predicted:
            assert predicted["low"] <= predicted["psnr"] <= predicted["high"]


@pytest.mark.parametrize(
    ("method", "calls"), [("tv", 0), ("ddnm", 2), ("oamp", 3)], ids=["tv", "ddnm", "oamp with its probe"]
)
def test_every_method(capsys, photos, prior, tmp_path, method, calls):
    names = [photos / "good-7x9.png", photos / "good-rgb.png"]
    options = ["--method", method, "--prior", prior, "--iterations", 2, "--ratio", 0.5, "--out", tmp_path]
    code, reports, errors = reconstruct(capsys, *names, *options)
    assert (code, errors) == (0, [])
    assert [report["network_calls"] for report in reports] == [calls, calls]
    assert all(report["psnr"] > 0 for report in reports)
    again = reconstruct(capsys, *names, *options)[1]
    assert [report["psnr"] for report in again] == [report["psnr"] for report in reports], "same seed, same result"


def test_a_perfect_image_is_null_in_json_and_exact_in_words(capsys, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    words = [tmp_path / "black.png", "--method", "pinv", "--ratio", "1", "--hold", "0", "--out", tmp_path / "out"]
    code, reports, _ = reconstruct(capsys, *words)
    assert code == 0
    assert reports[0]["psnr"] is None
    assert main(["reconstruct", *map(str, words)]) == 0
    assert "exact" in capsys.readouterr().out


def test_no_result_overwrites_another_or_an_input(capsys, tmp_path):
    for folder in ("p/a", "q/a"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / "x.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "p" / "a" / "x.bmp")
    names = [tmp_path / "p/a/x.png", tmp_path / "q/a/x.png", tmp_path / "p/a/x.bmp", tmp_path / "p/a/x.png"]
    _, reports, _ = reconstruct(capsys, *names, "--method", "pinv", "--out", tmp_path / "out")
    assert len({report["reconstruction"] for report in reports}) == len(reports) == 3

    mine = tmp_path / "photo-reconstruction.png"
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(mine)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "photo.png")
    code, _, errors = reconstruct(capsys, tmp_path / "photo.png", mine, "--method", "pinv", "--out", tmp_path)
    assert code == 1
    assert "would be lost" in errors[0]
    assert (read_pixels(mine) == 77).all()


def test_slices_of_scans(capsys, tmp_path):
    """Each is written under its file's name and its number."""
    (tmp_path / "b").mkdir()
    scan, other = (write_nifti(tmp_path / name, ellipsoid(6, 16)) for name in ("scan.nii.gz", "b/scan.nii.gz"))
    film = write_dicom(tmp_path / "film.dcm", np.ascontiguousarray(np.moveaxis(ellipsoid(6, 16), -1, 0)))
    names = [scan, f"{scan}#2", f"{scan}#4", f"{other}#2", film, f"{film}#6"]
    options = ("--method", "pinv", "--ratio", 1, "--hold", 0, "--out", tmp_path / "out")
    code, reports, errors = reconstruct(capsys, *names, *options)
    assert code == 1
    assert errors == [f"idm: {film} has no slice 6; expected 0 to 5."]
    written = [Path(report["reconstruction"]).name.removesuffix("-reconstruction.png") for report in reports]
    parent = tmp_path.name
    assert written == ["scan", f"{parent}-scan-nii-gz-2", "scan-4", "b-scan-nii-gz-2", "film"]
    for report in reports:
        shown = read_pixels(report["reconstruction"]).astype(int)
        assert np.abs(shown - read_pixels(report["image"]) / 257).max() <= 1


def test_a_folder_that_cannot_be_written_to(capsys, photos, tmp_path):
    (tmp_path / "file").touch()
    code = main(["reconstruct", str(photos / "good-7x9.png"), "--method", "pinv", "--out", str(tmp_path / "file")])
    assert code == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_words_for_a_person(capsys, photos, tmp_path):
    assert main(["reconstruct", str(photos / "good-31x200.png"), "--method", "pinv", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "200 × 31" in out
    assert "predicted without the photo" in out
    assert err == ""


def test_half_precision_and_tiles_change_little(capsys, photos, prior, tmp_path):
    common = [photos / "good-31x200.png", "--method", "oamp", "--prior", prior, "--iterations", 2]
    common += ["--ratio", 0.5, "--out", tmp_path]
    images = []
    for options in ([], ["--precision", "bf16"], ["--tile", 64]):
        code, (report,), errors = reconstruct(capsys, *common, *options)
        assert (code, errors) == (0, [])
        images.append(read_pixels(report["reconstruction"]).astype(float))
    for changed in images[1:]:
        assert 0 < np.abs(changed - images[0]).max() < 0.2 * np.ptp(images[0])
        assert np.abs(changed - images[0]).mean() < 0.01 * np.ptp(images[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--tile", "30", "--method", "oamp"], "multiples of 4"), (["--tile", "64", "--method", "tv"], "tv has none")],
)
def test_a_tile_that_does_not_fit_is_one_line(capsys, photos, prior, tmp_path, options, words):
    code = main(
        ["reconstruct", str(photos / "good-7x9.png"), "--prior", str(prior), "--out", str(tmp_path), *options]
    )
    assert code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_fine_tuned_model(capsys, photos, model, tmp_path):
    names = sorted(photos.glob("good-*.png"))
    code, reports, errors = reconstruct(capsys, *names, "--model", model, "--ratio", 0.5, "--out", tmp_path)
    assert (code, errors) == (0, [])
    assert {(report["method"], report["model"], report["network_calls"]) for report in reports} == {
        ("idm", str(model), 2)
    }


@pytest.mark.parametrize("words", [("--iterations", "3"), ("--prior", "prior-tiny")], ids=lambda words: words[0])
def test_what_a_fine_tuned_model_has_no_use_for(capsys, photos, model, words):
    assert main(["reconstruct", str(photos / "good-7x9.png"), "--model", str(model), *words]) == 1
    assert f"{words[0]} is for methods without fine-tuning" in capsys.readouterr().err


def test_a_model_or_a_method(capsys, photos):
    with pytest.raises(SystemExit) as end:
        main(["reconstruct", str(photos / "good-7x9.png"), "--model", "tiny", "--method", "oamp"])
    assert end.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_model_for_another_operator(capsys, photos):
    assert main(["reconstruct", str(photos / "good-7x9.png"), "--model", "tiny-mri4"]) == 1
    error = capsys.readouterr().err
    assert "tiny-mri4 was trained for MRI, and the measurements are of BlockCS; measure by idm measure" in error
    assert main(["evaluate", "--images", str(photos), "--model", "tiny-sr4"]) == 1
    assert "tiny-sr4 was trained for SuperResolution" in capsys.readouterr().err


def test_a_prior_is_not_a_model(capsys, photos, prior):
    assert main(["reconstruct", str(photos / "good-7x9.png"), "--model", str(prior)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["reconstruct", "x.png", "--model", ""],
        ["reconstruct", "x.png", "--method", "ddnm", "--prior", ""],
        ["train", "--config", "tiny", "--data", ""],
    ],
)
def test_an_empty_name_is_no_default(capsys, photos, tmp_path, words):
    words = [str(photos / "good-rgb.png") if word == "x.png" else word for word in words]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "got nothing; leave it out for the default" in err
    assert err.count("\n") == 1

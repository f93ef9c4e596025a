"""idm measure and idm reconstruct --measurements: what was measured can be recovered later, and nothing else."""

import json

import numpy as np
import pytest
import torch
from made_scans import ellipsoid, write_hdf5, write_nifti

import idm_lib as idm
from idm_lib.cli import main
from idm_lib.images import load_image, read_pixels

SMALL = {"operator": "SuperResolution", "factor": 2, "kernel": "box"}


def run(capsys, *words):
    """The JSON that was printed by a command that succeeds in silence."""
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def refused(capsys, *words):
    """The one line of a command that is refused with exit code 2."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.mark.parametrize("name", ["good-31x200.png", "good-rgb.png"])
def test_measured_now_and_recovered_later(capsys, photos, tmp_path, name):
    """The same image as measured and reconstructed at once."""
    file = tmp_path / "y.npz"
    measured = run(capsys, "measure", photos / name, "--ratio", 0.5, "--seed", 3, "--out", file)
    y, op = idm.load_measurements(file)
    assert measured["measurements"] == y.numel()
    assert measured["operator"] == op.config()
    assert (op.ratio, op.seed) == (0.5, 3)
    options = ("--method", "tv", "--iterations", 5, "--seed", 3)
    later = run(capsys, "reconstruct", "--measurements", file, *options, "--out", tmp_path / "later")
    (once,) = run(capsys, "reconstruct", photos / name, "--ratio", 0.5, *options, "--out", tmp_path / "once")
    assert (read_pixels(later["reconstruction"]) == read_pixels(once["reconstruction"])).all()
    assert later["predicted_psnr"] == once["predicted_psnr"]
    assert json.loads((tmp_path / "later" / "y.json").read_text(encoding="utf-8")) == later


def test_a_fine_tuned_model_takes_them_too(capsys, photos, model, tmp_path):
    run(capsys, "measure", photos / "good-31x200.png", "--out", tmp_path / "y.npz")
    report = run(capsys, "reconstruct", "--measurements", tmp_path / "y.npz", "--model", model, "--out", tmp_path)
    assert (report["method"], report["network_calls"], report["size"]) == ("idm", 2, [31, 200])
    words = ["reconstruct", "--measurements", str(tmp_path / "y.npz"), "--model", "tiny-ct", "--out", str(tmp_path)]
    assert main(words) == 1
    assert "tiny-ct was trained for ParallelBeamCT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        {"operator": "Inpainting", "ratio": 0.6, "pattern": "strokes"},
        {"operator": "MRI", "ratio": 0.5, "pattern": "radial", "coils": 2},
        {"operator": "ParallelBeamCT", "views": 9, "noise_std": 0.001},
    ],
    ids=lambda config: config["operator"],
)
def test_every_operator_by_its_configuration(capsys, photos, prior, tmp_path, config):
    written = tmp_path / "operator.json"
    written.write_text(json.dumps(config), encoding="utf-8")
    for given in (written, json.dumps(config)):
        run(capsys, "measure", photos / "good-rgb.png", "--operator", given, "--out", tmp_path / "y.npz")
    for method in ("pinv", "ddnm"):
        words = ("--method", method, "--out", tmp_path, *(("--prior", prior, "--iterations", 2) * (method == "ddnm")))
        report = run(capsys, "reconstruct", "--measurements", tmp_path / "y.npz", *words)
        assert report["operator"]["operator"] == config["operator"]
        assert report["predicted_psnr"] is None, "it relies on BlockCS's random rows"
        assert read_pixels(report["reconstruction"]).shape == (12, 10, 3)


def test_an_instruments_file_with_the_operator_beside_it(capsys, tmp_path):
    op = idm.SuperResolution((8, 8), 2, "box")
    x = load_image_like()
    np.savez(tmp_path / "y.npz", y=op.A(x).numpy())
    assert "names no operator" in refused(capsys, "reconstruct", "--measurements", tmp_path / "y.npz")
    words = ("--operator", json.dumps(op.config()), "--method", "pinv", "--out", tmp_path)
    assert main(["reconstruct", "--measurements", str(tmp_path / "y.npz"), *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert "8 × 8 from 16 measurements (SuperResolution) by pinv" in out
    found = load_image(tmp_path / "y-reconstruction.png")
    assert float((op.A(found) - op.A(x)).abs().max()) < 1 / 255


def load_image_like():
    return torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25


def test_a_slice_of_a_scan_is_measured(capsys, tmp_path):
    scan = write_nifti(tmp_path / "scan.nii.gz", ellipsoid(6, 16))
    mri = ("--operator", '{"operator": "MRI", "ratio": 0.5}', "--out", tmp_path / "y.npz")
    for name, index in ((f"{scan}#4", 4), (scan, 3)):
        report = run(capsys, "measure", name, *mri)
        assert (report["image"], report["size"]) == (str(name), [16, 16])
        y, op = idm.load_measurements(tmp_path / "y.npz")
        assert torch.equal(y, op.A(load_image(f"{scan}#{index}")))
    assert main(["measure", f"{scan}#6", *map(str, mri)]) == 1
    assert "scan.nii.gz has no slice 6; expected 0 to 5" in capsys.readouterr().err


def test_a_scanners_k_space_is_recovered(capsys, prior, tmp_path):
    """As load_kspace reads it, by any method that takes a real image."""
    image = ellipsoid(3, 32)[..., 1] * np.exp(0.5j)
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))
    mask = np.arange(32) % 2 < 1
    mask[12:21] = True
    knee = write_hdf5(tmp_path / "knee.h5", kspace=(spectrum * mask).astype(np.complex64)[None], mask=mask)
    for name, stem in ((knee, "knee"), (f"{knee}#0", "knee-0")):
        for method in ("pinv", "tv", "ddnm"):
            words = ("--method", method, *(("--prior", prior, "--iterations", 2) * (method == "ddnm")))
            report = run(capsys, "reconstruct", "--measurements", name, *words, "--out", tmp_path)
            assert report["operator"]["operator"] == "MRI"
            assert report["reconstruction"] == str(tmp_path / f"{stem}-reconstruction.png")
            assert report["size"] == [32, 32]
            if method == "pinv":
                y, op, _ = idm.load_kspace(knee)
                shown = read_pixels(report["reconstruction"]) / 255
                assert np.abs(shown - op.A_dagger(y)[0, 0].clamp(0, 1).numpy()).max() < 0.51 / 255
    for words, message in (
        ([f"{knee}#1", "--method", "pinv"], "has no slice 1; expected 0 to 0"),
        ([knee], "tiny was trained for BlockCS; for a MRI give --method"),
        ([knee, "--method", "pinv", "--operator", "{}"], "--operator cannot go with a scanner's file"),
        (
            [write_nifti(tmp_path / "a.nii", ellipsoid())],
            "a.nii is NIfTI and holds no k-space; expected fastMRI's HDF5",
        ),
    ):
        assert message in refused(capsys, "reconstruct", "--measurements", *words, "--out", tmp_path)


def test_noise_is_measured_and_told(capsys, photos, tmp_path):
    words = ("measure", photos / "good-31x200.png", "--ratio", 0.5, "--out", tmp_path / "y.npz", "--noise")
    clean, noisy = (run(capsys, *words, noise) and idm.load_measurements(tmp_path / "y.npz") for noise in (0, 0.1))
    assert noisy.operator.noise_std == 0.1
    assert float((noisy.y - clean.y).std()) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--operator", "gone.json"], "JSON, or a file of it"),
        (["--operator", "{broken"], "is not JSON"),
        (["--operator", "{}"], "operator must be one of"),
        (["--operator", '{"operator": "Telescope"}'], "got 'Telescope'"),
        (["--operator", json.dumps(SMALL | {"factor": 7})], "multiples of the factor 7"),
        (["--operator", json.dumps(SMALL | {"image_size": [8, 8]})], "has image_size [8, 8]"),
        (["--operator", json.dumps(SMALL), "--ratio", "0.5"], "nothing unknown"),
        (["--operator", '{"operator": "BlockCS", "ratio": 0.2}', "--ratio", "0.5"], "has ratio 0.2, but 0.5"),
        (["--noise", "-1"], "noise_std must be"),
        (["--noise", "nan"], "noise_std must be a finite number of at least 0; got nan"),
        (["--operator", '{"operator": "MRI", "mask": [[1, 0], [1]]}'], "mask must be an array"),
    ],
)
def test_an_operator_that_cannot_be_is_one_line_and_two(capsys, photos, tmp_path, words, message):
    assert message in refused(capsys, "measure", photos / "good-rgb.png", "--out", tmp_path / "y.npz", *words)
    assert not (tmp_path / "y.npz").exists()


def test_an_image_or_a_place_that_cannot_be_used_is_one_line_and_one(capsys, photos, tmp_path):
    for image, out, message in (
        ("cut.png", "y.npz", "cut.png is a broken image"),
        ("good-rgb.png", "y.txt", "end its name in .npz"),
        ("good-rgb.png", "no/y.npz", "could not be written"),
    ):
        assert main(["measure", str(photos / image), "--out", str(tmp_path / out)]) == 1
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_files_that_hold_no_measurements_are_one_line_and_two(capsys, tmp_path):
    op = idm.SuperResolution((8, 8), 2)
    good, y = tmp_path / "good.npz", np.random.RandomState(0).rand(1, 16)
    np.savez(good, y=y, operator=json.dumps(op.config()))
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:-60])
    np.savez(tmp_path / "foreign.npz", pixels=y)
    np.savez(tmp_path / "pickle.npz", y=np.array([{}], dtype=object))
    np.savez(tmp_path / "mismatch.npz", y=y[:, 1:], operator=json.dumps(op.config()))
    np.savez(tmp_path / "bare.npz", y=y[:, 1:])
    np.savez(tmp_path / "two.npz", y=np.repeat(y, 2, axis=0), operator=json.dumps(op.config()))
    complex_op = idm.MRI((8, 8), 0.5, complex_image=True)
    np.savez(
        tmp_path / "complex.npz", y=np.zeros((1, complex_op.measurements)), operator=json.dumps(complex_op.config())
    )
    other = json.dumps(op.config() | {"kernel": "box", "noise_std": 0.1})
    for name, words, message in (
        ("gone", [], "gone.npz does not exist"),
        ("cut", [], "no whole .npz without pickles"),
        ("foreign", [], "got no y"),
        ("pickle", [], "no whole .npz without pickles"),
        ("mismatch", [], "y has 15 numbers an image"),
        ("bare", ["--operator", json.dumps(op.config())], "has 15 numbers an image; a SuperResolution"),
        ("two", ["--method", "pinv"], "has 2 rows; expected 1"),
        ("complex", ["--method", "pinv"], "for complex images"),
        ("good", ["--operator", other], "differs from the one in"),
        ("good", ["--operator", other], "in kernel, noise_std"),
        ("good", ["--operator", "{broken"], "is not JSON"),
        ("good", [], "tiny was trained for BlockCS; for a SuperResolution give --method"),
    ):
        path = tmp_path / f"{name}.npz"
        words = [*words, "--out", tmp_path / "out"]
        assert message in refused(capsys, "reconstruct", "--measurements", path, *words)

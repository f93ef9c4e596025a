"""A folder as a test set: the paper's protocol, broken files named."""

import numpy as np
import pytest
import torch
from made_scans import ellipsoid, write_dicom, write_nifti
from PIL import Image

import idm_lib as idm
from idm_lib.evaluation import evaluate, load_test_set
from idm_lib.images import load_image
from idm_lib.solvers import pinv


def test_usable_images_are_loaded_and_broken_ones_named(tmp_path):
    with pytest.raises(idm.InputError, match="not a folder"):
        load_test_set(tmp_path / "none")
    (tmp_path / "b.png").write_text("text")
    with pytest.raises(idm.InputError, match=r"can be read: .*b\.png"):
        load_test_set(tmp_path)
    Image.fromarray(np.full((5, 4, 3), 90, np.uint8)).save(tmp_path / "a.png")
    images, broken = load_test_set(tmp_path)
    assert {name: tuple(image.shape) for name, image in images.items()} == {"a.png": (1, 1, 5, 4)}
    assert len(broken) == 1
    assert "b.png" in broken[0]


def test_of_scans_the_middle_slice_or_all_but_air(tmp_path):
    Image.fromarray(np.full((5, 4), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "sub-01" / "ct").mkdir(parents=True)
    write_nifti(tmp_path / "sub-01" / "t1.nii.gz", ellipsoid(7))
    for i in range(5):
        write_dicom(tmp_path / "sub-01" / "ct" / f"{i}.dcm", ellipsoid(7)[..., i].copy(), InstanceNumber=i)
    (tmp_path / "cut.nii").write_text("text")
    images, broken = load_test_set(tmp_path)
    assert set(images) == {"a.png", "sub-01/t1.nii.gz#3", "sub-01/ct/2.dcm"}
    assert len(broken) == 1
    assert "cut.nii is a broken NIfTI file" in broken[0]
    every, _ = load_test_set(tmp_path, "all")
    expected = {f"sub-01/t1.nii.gz#{i}" for i in range(1, 6)} | {f"sub-01/ct/{i}.dcm" for i in range(1, 5)}
    assert set(every) == {"a.png"} | expected, "the first and last are air"
    for name, image in every.items():
        assert torch.equal(image, load_image(tmp_path / name))
    with pytest.raises(idm.InputError, match="slices must be middle or all; got 'first'"):
        load_test_set(tmp_path, "first")


def test_a_folder_of_air_is_refused(tmp_path):
    write_nifti(tmp_path / "a.nii", np.zeros((4, 4, 3), np.int16))
    with pytest.raises(idm.InputError, match="every slice of its scans is nearly empty"):
        load_test_set(tmp_path, "all")


def test_one_matrix_and_a_permutation_for_each_image():
    x = torch.rand(1, 1, 16, 16)
    ops = []

    def method(y, op):
        ops.append(op)
        assert torch.equal(y, op.A(x))
        return pinv(y, op)

    done = []
    report = evaluate({"b": x, "a": x}, 0.25, method, seed=5, progress=lambda *state: done.append(state))
    assert done == [(1, 2, "a"), (2, 2, "b")]
    for i, op in enumerate(ops):
        again = idm.BlockCS((16, 16), 0.25, seed=5, permutation_seed=5 + i)
        assert torch.equal(op.A(x), again.A(x))
    rows = report["per_image"]
    assert [row["name"] for row in rows] == ["a", "b"]
    assert report["psnr"] == pytest.approx(np.mean([row["psnr"] for row in rows]))
    assert report["true_ratio"] == 0.25
    assert report["network_calls"] == 0


def test_small_images_have_no_ssim_and_quality_is_predicted_on_request():
    images = {"a": torch.rand(1, 1, 5, 6), "b": torch.rand(1, 1, 16, 16)}
    report = evaluate(images, 0.5, pinv, hold=0.1)
    assert report["per_image"][0]["ssim"] is None
    assert report["ssim"] == report["per_image"][1]["ssim"]
    assert set(report["per_image"][1]["predicted"]) == {"psnr", "low", "high"}


def test_noise_is_drawn_for_each_image_and_of_that_size():
    images, seen = {"a": torch.rand(1, 1, 64, 64), "b": torch.rand(1, 1, 64, 64)}, []

    def method(y, op):
        seen.append(y - op.A(images["ab"[len(seen) % 2]]))
        return pinv(y, op)

    for _ in range(2):
        evaluate(images, 0.5, method, seed=3, noise=0.1)
    assert [float(noise.std()) for noise in seen] == pytest.approx([0.1] * 4, rel=0.05)
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[0], seen[1], atol=0.01)
    with pytest.raises(idm.InputError, match="noise must be at least 0; got -1"):
        evaluate(images, 0.5, pinv, noise=-1)

"""Batches depend on seed and step alone, and never show what is held out."""

import sys

import numpy as np
import pytest
import torch
from made_scans import ellipsoid, write_dicom, write_hdf5, write_nifti
from PIL import Image

import idm_lib as idm
from idm_lib.training import PriorTask, TrainConfig, train
from idm_lib.training.data import CropSource


def test_batches_depend_on_seed_and_step_alone(folder):
    one, other = CropSource(folder, 16, 2, seed=1), CropSource(folder, 16, 2, seed=1)
    other.batch(9, 4)
    assert torch.equal(one.batch(3, 4), other.batch(3, 4))
    assert not torch.equal(one.batch(3, 16), one.batch(4, 16))
    assert not torch.equal(one.batch(3, 16), CropSource(folder, 16, 2, seed=2).batch(3, 16))


def test_held_out_images_are_in_no_batch(folder):
    source = CropSource(folder, 16, 2, seed=0)
    held = {int(image[0, 0]) for image in source.validation}
    assert held == {20, 120}, "spread evenly over the sorted names"
    seen = {round(float(v) * 255) for step in range(20) for v in source.batch(step, 8)[:, 0, 0, 0]}
    assert seen == {40, 60, 80, 100}
    assert source.batch(0, 3).shape == (3, 1, 16, 16)
    assert source.validation_crops(10).shape == (2, 1, 10, 10)


def test_what_cannot_be_used_is_named_and_passed_over(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "text.png").write_text("text")
    source = CropSource(tmp_path, 16, 2, seed=0)
    assert len(source.training) == 4
    assert [("text.png" in reason) for reason in source.skipped] == [True]
    with pytest.raises(idm.InputError, match="0 usable images"):
        CropSource(tmp_path, 21, 2, seed=0)
    with pytest.raises(idm.InputError, match="more than the 6"):
        CropSource(folder, 16, 6, seed=0)
    with pytest.raises(idm.InputError, match="not a folder"):
        CropSource(tmp_path / "none", 16, 2, seed=0)


SCANS = {20: 2, 40: 1, 60: 1, 80: 2, 100: 1, 120: 1}  # how many, of the patient of each shade


@pytest.fixture
def patients(tmp_path):
    """Six patients, each of one shade: three in NIfTI, three in DICOM. A scan has a slice of air and three more."""

    def volume(shade):
        values = np.full((20, 24, 4), shade, np.uint16)
        values[..., 0] = 0
        return values

    for name, shade in (("sub-a/t1.nii.gz", 20), ("sub-a/t2.nii", 20), ("b.nii", 40), ("c.nii", 60)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_nifti(tmp_path / name, volume(shade), cal_min=0, cal_max=128)
    for i, (folder, patient, shade) in enumerate((("x", "D", 80), ("y", "D", 80), ("y", "E", 100), ("z", "F", 120))):
        (tmp_path / folder).mkdir(exist_ok=True)
        for j in range(4):
            tags = {"PatientID": patient, "SeriesInstanceUID": f"1.2.{i}", "WindowCenter": 64.5, "WindowWidth": 129}
            write_dicom(tmp_path / folder / f"{i}-{j}.dcm", volume(shade)[..., j], InstanceNumber=j, **tags)
    return tmp_path


def shades(images):
    """Each image's shade in the units of its file, and how many images there are of it."""
    found = [round(int(image[0, 0]) / 255 * 128) for image in images]
    return {shade: found.count(shade) for shade in found}


@pytest.mark.parametrize("validation", range(6))
def test_scans_are_held_out_by_patient(patients, validation):
    """Shades tell the patients apart: all slices of one are in training, but air, or none is."""
    source = CropSource(patients, 16, validation, seed=0)
    assert source.skipped == []
    held, trained = shades(source.validation), shades(source.training)
    assert set(held.values()) <= {1}
    assert len(held) == validation
    assert trained == {shade: 3 * scans for shade, scans in SCANS.items() if shade not in held}
    seen = {round(float(v) * 128) for step in range(9) for v in source.batch(step, 8)[:, 0, 0, 0]}
    assert seen <= set(trained)
    assert not seen & set(held)
    if validation:
        assert source.validation_crops(20).shape == (validation, 1, 20, 20)


def test_the_middle_of_a_held_out_patient_is_shown(tmp_path):
    for name in "abc":
        write_nifti(tmp_path / f"{name}.nii", np.broadcast_to(np.arange(0, 7) * 20, (20, 20, 7)).astype(np.int16))
    source = CropSource(tmp_path, 16, 1, seed=0)
    usable = sorted({int(image[0, 0]) for image in source.training})
    assert len(usable) == 6, "the first is black"
    assert source.validation[0][0, 0] == usable[3]


def test_photographs_and_scans_may_be_mixed(patients, folder):
    for path in folder.iterdir():
        (patients / path.name).write_bytes(path.read_bytes())
    source = CropSource(patients, 16, 0, seed=0)
    assert [int(image[0, 0]) for image in source.training[:6]] == [20, 40, 60, 80, 100, 120]
    assert len(source.training) == 6 + 3 * sum(SCANS.values())
    words = "6 usable images and usable scans of 6 patients; expected more than the 12 held out .* one subfolder"
    with pytest.raises(idm.InputError, match=words):
        CropSource(patients, 16, 12, seed=0)


def test_scans_that_cannot_be_used_are_named_and_passed_over(patients):
    write_nifti(patients / "small.nii", ellipsoid(4, 12))
    write_nifti(patients / "air.nii", np.zeros((20, 20, 3), np.int16))
    (patients / "text.nii").write_text("text")
    write_hdf5(patients / "features.h5", labels=np.zeros(3))
    source = CropSource(patients, 16, 0, seed=0)
    assert len(source.training) == 3 * sum(SCANS.values())
    assert len(source.skipped) == 4
    for words in (
        "small.nii and its series are smaller than a crop of 16 × 16 pixels",
        "air.nii and its series are nearly empty",
        "text.nii is a broken NIfTI file",
        "features.h5 has labels in it; expected fastMRI's layout",
    ):
        assert any(words in sentence for sentence in source.skipped), words


def test_only_scans_without_their_package(tmp_path, monkeypatch):
    write_nifti(tmp_path / "a.nii", ellipsoid())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(idm.InputError, match=r"0 usable images; .* \(.*1 NIfTI files, but .* idm_lib\[medical\]\)"):
        CropSource(tmp_path, 16, 0, seed=0)
    Image.new("L", (20, 20), 9).save(tmp_path / "a.png")
    source = CropSource(tmp_path, 16, 0, seed=0)
    assert len(source.training) == 1
    assert len(source.skipped) == 1


@pytest.mark.parametrize("kind", ["NIfTI", "DICOM", "HDF5"])
def test_a_run_trains_on_a_folder_of_scans(recipe, tmp_path, kind, capsys):
    data = tmp_path / "scans"
    for i in range(4):
        volume = ellipsoid(6, 24, 1000 + i)
        (data / f"p{i}").mkdir(parents=True)
        if kind == "NIfTI":
            write_nifti(data / f"p{i}" / "t1.nii.gz", volume)
        elif kind == "HDF5":
            write_hdf5(data / f"{i}.h5", reconstruction_rss=np.moveaxis(volume, -1, 0).astype(np.float32))
        else:
            for j, plane in enumerate(np.moveaxis(volume, -1, 0)):
                tags = {"SeriesInstanceUID": f"1.{i}", "InstanceNumber": j}
                write_dicom(data / f"p{i}" / f"{j}.dcm", np.ascontiguousarray(plane), **tags)
    config = TrainConfig.load(recipe, [f'data.folder="{data}"', "steps=2", "data.validation=1", "validate_every=1"])
    weights = train(PriorTask(config), config, tmp_path / "run")
    assert "skipped" not in capsys.readouterr().out
    prior = idm.Denoiser.from_pretrained(weights)
    source = CropSource.of(config)
    assert len(source.training) == 3 * 4
    assert bool(prior(source.batch(0, 2), 0.1).isfinite().all())

"""NIfTI: slices, orientation, windows, and files that are no volume."""

import gzip

import nibabel
import numpy as np
import pytest
from made_scans import write_dicom, write_nifti

import idm_lib as idm
from idm_lib.images import read_pixels
from idm_lib.medical.grey import grey, grey_volume, percentile_range
from idm_lib.medical.nifti import read_nifti

VOLUME = np.random.RandomState(0).randint(-50, 1000, (5, 6, 7)).astype(np.int16)  # right, front, up


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_slices_lie_across_the_last_axis_front_on_top_and_right_on_the_left(tmp_path, name):
    path = write_nifti(tmp_path / name.lower(), VOLUME).rename(tmp_path / name)
    found = read_nifti(path)
    limits = percentile_range(VOLUME)
    assert found.shape == (7, 6, 5)
    for i in range(7):
        assert (found[i] == grey(VOLUME[::-1, ::-1, i].T, *limits)).all()
    assert (read_pixels(path) == found[3]).all(), "the middle one"
    assert (read_pixels(f"{path}#0") == found[0]).all()


@pytest.mark.parametrize(("axis", "shape"), [(0, (5, 7, 6)), (1, (6, 7, 5)), (2, (7, 6, 5))])
def test_another_axis(tmp_path, axis, shape):
    found = read_nifti(write_nifti(tmp_path / "a.nii", VOLUME), axis)
    assert found.shape == shape
    plane = np.take(VOLUME, 2, axis)[::-1, ::-1].T
    assert (found[2] == grey(plane, *percentile_range(VOLUME))).all()
    with pytest.raises(idm.InputError, match="axis must be 0, 1 or 2"):
        read_nifti(tmp_path / "a.nii", 3)


def test_however_it_is_stored_it_looks_the_same(tmp_path):
    straight = read_nifti(write_nifti(tmp_path / "a.nii", VOLUME))
    turned = nibabel.Nifti1Image(VOLUME, np.eye(4)).as_reoriented([[1, -1], [2, 1], [0, -1]])
    assert nibabel.aff2axcodes(turned.affine) == ("I", "L", "A")
    nibabel.save(turned, tmp_path / "b.nii")
    assert (read_nifti(tmp_path / "b.nii") == straight).all()


def test_it_looks_as_the_same_slice_does_in_dicom(tmp_path):
    """DICOM's rows run to the patient's left, its columns to the back: NIfTI's first two axes, both backwards."""
    slice_as_dicom = np.ascontiguousarray(VOLUME[::-1, ::-1, 3].T)
    path = write_dicom(tmp_path / "a.dcm", slice_as_dicom, WindowCenter=500.5, WindowWidth=1001)
    other = write_nifti(tmp_path / "a.nii", VOLUME, cal_min=0, cal_max=1000)
    assert (read_pixels(path) == read_pixels(other)).all()


def test_scaled_values_and_the_display_window(tmp_path):
    path = write_nifti(tmp_path / "a.nii", VOLUME, cal_min=10, cal_max=400)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([0.5, 3], np.float32).tobytes()  # scl_slope and scl_inter
    path.write_bytes(data)
    values = np.moveaxis(VOLUME * 0.5 + 3, -1, 0)[:, ::-1, ::-1].transpose(0, 2, 1)
    assert (read_nifti(path) == grey_volume(values, (10, 400))).all()
    shown = read_nifti(write_nifti(tmp_path / "b.nii", VOLUME, cal_min=100, cal_max=200))
    assert (shown[0] == grey(VOLUME[::-1, ::-1, 0].T, 100, 200)).all()
    for ends in ({"cal_min": 5, "cal_max": 5}, {"cal_max": np.nan}, {"cal_max": np.inf}):
        shown = read_nifti(write_nifti(tmp_path / "b.nii", VOLUME, **ends))
        assert (shown == read_nifti(write_nifti(tmp_path / "c.nii", VOLUME))).all(), "no window at all"


def test_one_volume_may_have_a_fourth_axis_but_a_series_is_refused(tmp_path):
    assert read_nifti(write_nifti(tmp_path / "a.nii", VOLUME[..., None])).shape == (7, 6, 5)
    for values, words in (
        (np.stack([VOLUME] * 2, -1), r"shape \(5, 6, 7, 2\); expected one volume"),
        (VOLUME[..., 0], r"shape \(5, 6\); expected one volume"),
        (VOLUME.astype(np.complex64), "holds complex64; expected real"),
    ):
        with pytest.raises(idm.InputError, match=words):
            read_nifti(write_nifti(tmp_path / "a.nii", values))


def test_files_that_are_none(tmp_path):
    whole = write_nifti(tmp_path / "whole.nii.gz", VOLUME).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.nii").write_bytes(gzip.decompress(whole)[:-20])
    (tmp_path / "text.nii").write_text("text")
    (tmp_path / "text.nii.gz").write_text("text")
    (tmp_path / "empty.nii").touch()
    for name in ("cut.nii.gz", "cut.nii", "text.nii", "text.nii.gz", "empty.nii"):
        with pytest.raises(idm.InputError, match=rf"{name} is a broken NIfTI file") as refusal:
            read_pixels(tmp_path / name)
        assert "\n" not in str(refusal.value)
    with pytest.raises(idm.InputError, match="does not exist; give the path of a whole NIfTI file"):
        read_pixels(tmp_path / "gone.nii.gz#3")


def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path):
    whole, rng = write_nifti(tmp_path / "a.nii", VOLUME).read_bytes(), np.random.RandomState(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randint(348)] = rng.randint(256)
        (tmp_path / "a.nii").write_bytes(data)
        try:
            assert read_pixels(tmp_path / "a.nii").dtype == np.uint16
        except idm.InputError:
            refused += 1
    assert 0 < refused < 60

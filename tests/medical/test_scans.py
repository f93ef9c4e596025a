"""Scans of a folder: names, whose they are, and packages that are missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_scans import ellipsoid, write_dicom, write_hdf5, write_nifti
from PIL import Image

import idm_lib as idm
from idm_lib.images import read_pixels
from idm_lib.medical import find_scans, is_scan, middle, read_slice, slice_stem, split_name

SMALL = np.arange(12, dtype=np.uint16).reshape(3, 4)
VOLUME = ellipsoid(5, 8)


def test_names():
    assert split_name("a/scan.nii.gz#80") == (Path("a/scan.nii.gz"), 80)
    assert split_name("scan.nii.gz")[1] is None
    assert split_name("photo#7.png")[1] is None
    assert split_name("photo.png#7")[1] is None, "a photograph may be called so"
    assert all(is_scan(name) for name in ("a.DCM", "a.ima", "a.h5#3", "a.nii"))
    assert not any(is_scan(name) for name in ("a.png", "a.gz", "none", "a.nii#b"))
    stems = {"x/a.nii.gz#80": "a-80", "a.nii.gz": "a", "a.h5#0": "a-0", "a.b.png": "a.b"}
    assert {name: slice_stem(name) for name in stems} == stems
    with pytest.raises(idm.InputError, match="no scan that is known"):
        read_slice("a.png")


def test_a_photograph_whose_name_looks_like_a_slice_is_read(tmp_path):
    Image.new("L", (3, 2), 9).save(tmp_path / "a.nii#7.png")
    assert (read_pixels(tmp_path / "a.nii#7.png") == 9).all()


def test_every_slice_is_found_again_by_its_name(tmp_path):
    (tmp_path / "p1").mkdir()
    write_nifti(tmp_path / "p1" / "t1.nii.gz", VOLUME)
    write_hdf5(tmp_path / "knee.h5", reconstruction_rss=np.moveaxis(VOLUME, -1, 0).astype(np.float32))
    write_dicom(tmp_path / "p1" / "film.dcm", np.stack([SMALL] * 2), SeriesInstanceUID="1.1")
    write_dicom(tmp_path / "p1" / "one.dcm", SMALL)
    scans, broken = find_scans(tmp_path)
    assert broken == []
    slices = [one for scan in scans for one in scan.read()[0]]
    names = {one.name for one in slices}
    assert names == {f"p1/t1.nii.gz#{i}" for i in range(5)} | {f"knee.h5#{i}" for i in range(5)} | {
        "p1/film.dcm#0",
        "p1/film.dcm#1",
        "p1/one.dcm",
    }
    for one in slices:
        assert (read_slice(tmp_path / one.name) == one.pixels).all()
    assert middle(scans[0].read()[0]).name == "knee.h5#2"


def test_whose_a_scan_is(tmp_path):
    """By what the files say; else by subfolder; else every volume is another patient's."""
    for folder in ("sub-01/anat", "more/sub-01/ses-2", "sub-02/anat", "brats7", "brats8", "ct/a", "ct/b", "un/named"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "more/sub-01/ses-2/sub-01_T2w.nii.gz",
        "sub-02/anat/x.nii.gz",
        "sub-02_flair.nii.gz",
        "brats7/t1.nii.gz",
        "brats7/t2.nii.gz",
        "brats8/t1.nii.gz",
        "x.nii.gz",
        "y.nii.gz",
    ):
        write_nifti(tmp_path / name, VOLUME)
    images = {"reconstruction_rss": np.ones((1, 3, 4))}
    write_hdf5(tmp_path / "f1.h5", {"patient_id": "abc"}, **images)
    write_hdf5(tmp_path / "f2.h5", {"patient_id": "abc"}, **images)
    write_hdf5(tmp_path / "f3.h5", **images)
    write_dicom(tmp_path / "ct/a/1.dcm", SMALL, PatientID="P", StudyInstanceUID="1.1", SeriesInstanceUID="1.1.1")
    write_dicom(tmp_path / "ct/b/1.dcm", SMALL, PatientID="P", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1")
    write_dicom(tmp_path / "ct/b/2.dcm", SMALL, StudyInstanceUID="1.3", SeriesInstanceUID="1.3.1")
    write_dicom(tmp_path / "ct/b/3.dcm", SMALL, StudyInstanceUID="1.3", SeriesInstanceUID="1.3.2")
    for i in range(2):
        write_dicom(tmp_path / f"un/named/{i}.dcm", SMALL, SeriesInstanceUID=None)
        write_dicom(tmp_path / f"{i}.dcm", SMALL, SeriesInstanceUID=None)
    scans, broken = find_scans(tmp_path)
    assert broken == []
    owners: dict[str, list[str]] = {}
    for scan in scans:
        owners.setdefault(scan.patient, []).append("+".join(p.relative_to(tmp_path).as_posix() for p in scan.files))
    assert {patient: sorted(files) for patient, files in owners.items()} == {
        "sub-01": ["more/sub-01/ses-2/sub-01_T2w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz"],
        "sub-02": ["sub-02/anat/x.nii.gz", "sub-02_flair.nii.gz"],
        "brats7": ["brats7/t1.nii.gz", "brats7/t2.nii.gz"],
        "brats8": ["brats8/t1.nii.gz"],
        "x.nii.gz": ["x.nii.gz"],
        "y.nii.gz": ["y.nii.gz"],
        "abc": ["f1.h5", "f2.h5"],
        "f3.h5": ["f3.h5"],
        "P": ["ct/a/1.dcm", "ct/b/1.dcm"],
        "1.3": ["ct/b/2.dcm", "ct/b/3.dcm"],
        "un": ["un/named/0.dcm+un/named/1.dcm"],
        "*": ["0.dcm+1.dcm"],
    }
    assert [scan.patient for scan in scans] == sorted(scan.patient for scan in scans)


def test_broken_files_are_named_and_hidden_ones_passed_over(tmp_path):
    write_nifti(tmp_path / "a.nii", VOLUME)
    (tmp_path / ".git").mkdir()
    for name in (".b.nii", ".git/c.nii", "DICOMDIR", "notes.txt"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "d.h5").write_text("text")
    (tmp_path / "e.dcm").write_text("text")
    (tmp_path / "f.nii").write_text("text")
    scans, broken = find_scans(tmp_path)
    assert [scan.files[0].name for scan in scans] == ["a.nii", "f.nii"]
    assert len(broken) == 2
    for words in ("d.h5 is a broken HDF5 file", "e.dcm is not DICOM"):
        assert any(words in sentence for sentence in broken)
    slices, (sentence,) = scans[1].read()
    assert slices == []
    assert "f.nii is a broken NIfTI file" in sentence


def test_of_a_series_only_the_broken_file_is_lost(tmp_path):
    for i in range(3):
        write_dicom(tmp_path / f"{i}.dcm", SMALL, InstanceNumber=i)
    (tmp_path / "1.dcm").write_bytes((tmp_path / "1.dcm").read_bytes()[:-3])
    slices, broken = find_scans(tmp_path)[0][0].read()
    assert [one.name for one in slices] == ["0.dcm", "2.dcm"]
    assert len(broken) == 1
    assert "1.dcm is a broken DICOM file" in broken[0]


@pytest.mark.parametrize(
    ("name", "kind", "package"),
    [("a.dcm", "DICOM", "pydicom"), ("a.nii", "NIfTI", "nibabel"), ("a.h5", "HDF5", "h5py")],
)
def test_a_package_that_is_missing_is_one_sentence_with_the_extra(tmp_path, monkeypatch, name, kind, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    (tmp_path / name).write_text("text")
    (tmp_path / f"b{name}").write_text("text")
    words = (
        rf"{kind} files are read with {package}, which is not installed; pip install {package}, or idm_lib\[medical\]"
    )
    with pytest.raises(idm.InputError, match=words):
        read_pixels(tmp_path / name)
    scans, (sentence,) = find_scans(tmp_path)
    assert scans == []
    assert f"{tmp_path} has 2 {kind} files, but {kind} files are read with {package}" in sentence


def test_the_packages_are_imported_only_when_a_file_needs_them(tmp_path):
    Image.new("L", (3, 2), 9).save(tmp_path / "a.png")
    code = (
        "import sys\nfrom idm_lib.images import read_pixels\nfrom idm_lib.training.data import CropSource\n"
        f"read_pixels({str(tmp_path / 'a.png')!r})\nCropSource({str(tmp_path)!r}, 2, 0, 0)\n"
        "assert not {'pydicom', 'nibabel', 'h5py'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

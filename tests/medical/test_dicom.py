"""DICOM: units, windows, inversion, frames, series, and files that are none."""

import numpy as np
import pydicom
import pytest
from made_scans import write_dicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

import idm_lib as idm
from idm_lib.images import load_image, luminance, read_pixels
from idm_lib.medical import find_scans
from idm_lib.medical.dicom import read_dicom, read_header
from idm_lib.medical.grey import grey, percentile_range

RAMP = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)


def test_rescaled_to_hounsfield_and_windowed(tmp_path):
    """LINEAR, PS3.3 C.11.2.1.2: width 400 round 40 runs from -160 to 239."""
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    found = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, **tags))
    units = RAMP * 2.0 - 1024
    assert found.shape == (1, 64, 64)
    assert (found[0] == (np.clip((units + 160) / 399, 0, 1) * 65535).round()).all()
    assert (found[0][units <= -160] == 0).all()
    assert (found[0][units >= 239] == 65535).all()


@pytest.mark.parametrize(
    ("tags", "low", "high"),
    [
        ({"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "LINEAR_EXACT"}, 75, 125),
        ({"WindowCenter": [100, 7], "WindowWidth": [51, 9]}, 74.5, 124.5),
        ({"WindowCenter": "100.5", "WindowWidth": "1"}, 100, 100),
    ],
    ids=["exact", "the first of two", "a threshold"],
)
def test_other_windows(tmp_path, tags, low, high):
    found = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, **tags))
    assert (found[0] == grey(RAMP, low, high)).all()


def test_a_sigmoid_window(tmp_path):
    tags = {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    found = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, **tags))[0] / 65535
    assert np.abs(found - 1 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))).max() < 1e-5


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 5}])
def test_without_a_usable_window_percentiles(tmp_path, tags):
    found = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, **tags))
    assert (found[0] == grey(RAMP, *percentile_range(RAMP))).all()


def test_monochrome1_is_inverted_and_padding_is_black(tmp_path):
    stored = RAMP.astype(np.int16) - 100
    stored[0, :3] = [-2000, -1999, -1998]
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1999}
    found = read_dicom(write_dicom(tmp_path / "a.dcm", stored, **tags))[0]
    shown = stored.ravel()[2:]
    low, high = percentile_range(shown)
    assert low > -1998, "the padding has no part in the range"
    assert (found.ravel()[2:] == grey(shown[None], low, high, inverted=True)[0]).all()
    assert found[0, :3].tolist() == [0, 0, 65535]


def test_frames_are_slices_and_the_middle_one_is_meant(tmp_path):
    frames = np.stack([np.full((3, 4), shade, np.uint16) for shade in (10, 20, 30, 40)])
    path = write_dicom(tmp_path / "a.dcm", frames, WindowCenter=50.5, WindowWidth=101)
    assert read_dicom(path)[:, 0, 0].tolist() == [round(s / 100 * 65535) for s in (10, 20, 30, 40)]
    assert (read_pixels(path) == round(0.3 * 65535)).all()
    assert (read_pixels(f"{path}#3") == round(0.4 * 65535)).all()
    assert load_image(f"{path}#0", colour=True).shape == (1, 1, 3, 4)
    with pytest.raises(idm.InputError, match=r"a\.dcm has no slice 4; expected 0 to 3"):
        read_pixels(f"{path}#4")


def test_an_enhanced_file_keeps_units_and_windows_with_its_frames(tmp_path):
    def group(slope, centre):
        units, display, item = Dataset(), Dataset(), Dataset()
        units.RescaleSlope, units.RescaleIntercept = slope, 0
        display.WindowCenter, display.WindowWidth = centre, 101
        item.PixelValueTransformationSequence, item.FrameVOILUTSequence = [units], [display]
        return item

    frames = np.full((2, 3, 4), 20, np.uint16)
    per_frame = [group(1, 50.5), group(2, 50.5)]
    shared = per_frame[1].FrameVOILUTSequence
    del per_frame[1].FrameVOILUTSequence
    common = Dataset()
    common.FrameVOILUTSequence = shared
    path = write_dicom(
        tmp_path / "a.dcm",
        frames,
        PerFrameFunctionalGroupsSequence=per_frame,
        SharedFunctionalGroupsSequence=[common],
    )
    assert read_dicom(path)[:, 0, 0].tolist() == [round(0.2 * 65535), round(0.4 * 65535)]


def test_a_table_of_units(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.array([0, 1000, 500, 2000], np.uint16).tobytes()
    stored = np.array([[0, 1, 2, 3]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, ModalityLUTSequence=[table], WindowCenter=1000.5, WindowWidth=2001)
    assert read_dicom(path)[0].tolist() == [[0, 32768, 16384, 65535]]


def test_of_colour_the_luminance_counts(tmp_path):
    rgb = np.random.RandomState(0).randint(0, 256, (5, 6, 3)).astype(np.uint8)
    path = write_dicom(
        tmp_path / "a.dcm", rgb, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    assert (read_dicom(path)[0] == luminance(rgb).astype(int) * 257).all()


def test_a_series_without_window_shares_one_range(tmp_path):
    """Read alone or with the rest, a slice is the same; another series beside it plays no part."""
    for i in range(3):
        write_dicom(tmp_path / f"{2 - i}.dcm", RAMP[:8] + np.uint16(1000 * i), InstanceNumber=i + 1)
    write_dicom(tmp_path / "other.dcm", RAMP[:8] + np.uint16(9000), SeriesInstanceUID="1.2.4")
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM")
    volume = np.stack([RAMP[:8] + 1000.0 * i for i in range(3)])
    limits = percentile_range(volume)
    scans, broken = find_scans(tmp_path)
    (series,) = [scan for scan in scans if len(scan.files) == 3]
    assert [path.name for path in series.files] == ["2.dcm", "1.dcm", "0.dcm"], "by InstanceNumber"
    slices, wrong = series.read()
    assert wrong == []
    assert [name for name in broken if "broken.dcm" in name] == broken
    for i, one in enumerate(slices):
        assert (one.pixels == grey(volume[i], *limits)).all()
        assert (read_pixels(tmp_path / one.name) == one.pixels).all()


def test_a_dicom_file_is_known_without_suffix(tmp_path):
    for name in ("IM0001", "1.2.840.10008.7"):
        path = write_dicom(tmp_path / name, RAMP, WindowCenter=2048, WindowWidth=4096)
        assert read_pixels(path).max() == 65535
    (tmp_path / "README").write_text("text")
    with pytest.raises(idm.InputError, match="not an image that can be read"):
        read_pixels(tmp_path / "README")


def test_headers(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, PatientID="P7", StudyInstanceUID="1.9", InstanceNumber=12)
    assert read_header(path) == ("P7", "1.9", "1.2.3", 12)
    assert read_header(write_dicom(path, RAMP, SeriesInstanceUID=None)) == ("", "", "", 0)


def test_files_that_hold_no_image(tmp_path):
    whole = write_dicom(tmp_path / "whole.dcm", RAMP).read_bytes()
    (tmp_path / "text.dcm").write_text("text")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "cut.dcm").write_bytes(whole[:-500])
    (tmp_path / "head.dcm").write_bytes(whole[:300])
    report = pydicom.dcmread(tmp_path / "whole.dcm")
    for name in ("PixelData", "Rows", "Columns"):
        del report[name]
    report.save_as(tmp_path / "report.dcm")
    no_pixels = pydicom.dcmread(tmp_path / "whole.dcm")
    del no_pixels.PixelData
    no_pixels.save_as(tmp_path / "none.dcm")
    packed = pydicom.dcmread(tmp_path / "whole.dcm")
    packed.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    packed.PixelData = encapsulate([b"film"])
    packed.save_as(tmp_path / "film.dcm")
    table = pydicom.dcmread(tmp_path / "whole.dcm")
    table.PhotometricInterpretation = "PALETTE COLOR"
    table.save_as(tmp_path / "palette.dcm")
    (tmp_path / "folder.dcm").mkdir()
    for name, words in {
        "text": "not DICOM as files have it",
        "empty": "not DICOM as files have it|broken DICOM file",
        "cut": "broken DICOM file",
        "head": "get a whole copy|without an image",
        "report": "DICOM without an image",
        "none": "broken DICOM file",
        "film": "compressed as MPEG2 .*no decoder here",
        "palette": "holds PALETTE COLOR",
        "folder": "is a folder",
        "gone": "does not exist",
    }.items():
        with pytest.raises(idm.InputError, match=rf"{name}\.dcm .*({words})") as refusal:
            read_pixels(tmp_path / f"{name}.dcm")
        assert "\n" not in str(refusal.value)


def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path):
    whole, rng = write_dicom(tmp_path / "a.dcm", RAMP[:8]).read_bytes(), np.random.RandomState(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[128 + rng.randint(len(data) - 128 - 1024)] = rng.randint(256)
        (tmp_path / "a.dcm").write_bytes(data)
        try:
            assert read_pixels(tmp_path / "a.dcm").dtype == np.uint16
        except idm.InputError:
            refused += 1
    assert 0 < refused < 60

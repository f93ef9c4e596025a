"""fastMRI's HDF5: images, k-space, and files of another layout."""

import numpy as np
import pytest
from made_scans import write_hdf5

import idm_lib as idm
from idm_lib.images import read_pixels
from idm_lib.medical.fastmri import coil_images, combined, read_fastmri, read_kspace
from idm_lib.medical.grey import grey_volume

RNG = np.random.RandomState(0)
IMAGES = RNG.rand(5, 8, 6).astype(np.float32)
COILS = (RNG.randn(5, 3, 8, 6) + 1j * RNG.randn(5, 3, 8, 6)).astype(np.complex64)
KSPACE = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(COILS, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))


@pytest.mark.parametrize("name", ["reconstruction_rss", "reconstruction_esc"])
def test_the_image_of_a_file(tmp_path, name):
    path = write_hdf5(tmp_path / "a.h5", kspace=KSPACE, **{name: IMAGES})
    found = read_fastmri(path)
    assert (found == grey_volume(IMAGES, None)).all()
    assert (read_pixels(path) == found[2]).all()
    assert (read_pixels(f"{path}#4") == found[4]).all()


def test_without_an_image_the_coils_images_are_combined(tmp_path):
    found = read_fastmri(write_hdf5(tmp_path / "a.hdf5", kspace=KSPACE))
    expected = grey_volume(np.sqrt((np.abs(COILS) ** 2).sum(axis=1)), None)
    assert np.abs(found.astype(int) - expected).max() <= 1
    single = read_fastmri(write_hdf5(tmp_path / "b.h5", kspace=KSPACE[:, 0], mask=np.ones(6)))
    assert np.abs(single.astype(int) - grey_volume(np.abs(COILS[:, 0]), None)).max() <= 1


def test_undersampled_k_space_alone_is_no_image(tmp_path):
    mask = np.array([0, 1, 1, 1, 0, 1], np.float32)
    path = write_hdf5(tmp_path / "a.h5", kspace=KSPACE * mask, mask=mask)
    with pytest.raises(idm.InputError, match="undersampled k-space and no image"):
        read_fastmri(path)
    path = write_hdf5(tmp_path / "b.h5", kspace=KSPACE * mask, mask=mask, reconstruction_rss=IMAGES)
    assert read_fastmri(path).shape == (5, 8, 6)


def test_k_space_with_its_mask(tmp_path):
    mask = np.array([0, 1, 1, 1, 0, 1], np.float32)
    samples, sampled = read_kspace(write_hdf5(tmp_path / "a.h5", kspace=KSPACE, mask=mask), 1)
    assert (sampled == mask.astype(bool)).all()
    assert sampled.shape == (8, 6)
    assert (samples == KSPACE[1] * mask).all()
    samples, sampled = read_kspace(write_hdf5(tmp_path / "a.h5", kspace=KSPACE[:, 0]))
    assert samples.shape == (1, 8, 6)
    assert sampled.all()
    assert np.allclose(coil_images(samples), COILS[2, :1], atol=1e-5), "the middle slice"
    assert np.allclose(combined(KSPACE[3]), np.sqrt((np.abs(COILS[3]) ** 2).sum(axis=0)), atol=1e-5)


def test_files_of_another_layout(tmp_path):
    whole = write_hdf5(tmp_path / "whole.h5", reconstruction_rss=IMAGES).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[:-200])
    (tmp_path / "text.h5").write_text("text")
    (tmp_path / "empty.h5").touch()
    write_hdf5(tmp_path / "nothing.h5")
    write_hdf5(tmp_path / "other.h5", features=IMAGES, labels=IMAGES)
    write_hdf5(tmp_path / "flat.h5", reconstruction_rss=IMAGES[0])
    write_hdf5(tmp_path / "none.h5", reconstruction_rss=IMAGES[:0])
    write_hdf5(tmp_path / "words.h5", reconstruction_rss=np.array([[[b"a"]]]))
    write_hdf5(tmp_path / "real.h5", kspace=IMAGES)
    write_hdf5(tmp_path / "mask.h5", kspace=KSPACE, mask=np.ones(4))
    write_hdf5(tmp_path / "values.h5", kspace=KSPACE, mask=np.full(6, 0.5))
    write_hdf5(tmp_path / "nan.h5", kspace=KSPACE * np.nan)
    import h5py

    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("reconstruction_rss")
    for name, words in {
        "cut": "broken HDF5 file",
        "text": "broken HDF5 file",
        "empty": "broken HDF5 file",
        "nothing": "has nothing in it; expected fastMRI",
        "other": "has features, labels in it; expected fastMRI",
        "flat": r"shape \(8, 6\), float32; expected \(slices, H, W\)",
        "none": r"shape \(0, 8, 6\)",
        "words": r"real numbers",
        "group": r"shape \(\)",
        "real": r"kspace of shape \(5, 8, 6\), float32; .* complex numbers",
        "mask": r"mask of shape \(4,\)",
        "values": r"one 0 or 1 a column",
        "gone": "does not exist",
    }.items():
        with pytest.raises(idm.InputError, match=rf"{name}\.h5 .*({words})") as refusal:
            read_pixels(tmp_path / f"{name}.h5")
        assert "\n" not in str(refusal.value)
    with pytest.raises(idm.InputError, match="not finite"):
        read_kspace(tmp_path / "nan.h5")
    with pytest.raises(idm.InputError, match="no slice 5; expected 0 to 4"):
        read_kspace(write_hdf5(tmp_path / "a.h5", kspace=KSPACE), 5)

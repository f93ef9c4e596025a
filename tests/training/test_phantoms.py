"""Phantoms: ellipses in a body, drawn by a seed."""

import numpy as np

from idm_lib.training.data import CropSource
from idm_lib.training.phantoms import phantom


def test_a_phantom_is_a_body_on_black_and_depends_on_its_seed_alone():
    one, same, other = (phantom(64, np.random.RandomState(seed)) for seed in (1, 1, 2))
    assert one.shape == (64, 64)
    assert one.dtype == np.uint8
    assert (one == same).all()
    assert (one != other).any()
    for image in (one, other):
        assert image[0].max() == image[:, 0].max() == 0, "nothing at the border"
        assert image.max() > 100, "a bright rim"
        assert image[24:40, 24:40].any(), "something within it"


def test_edges_are_a_pixel_wide():
    """The same phantom at twice the size and averaged is the same picture but at edges."""
    small = phantom(64, np.random.RandomState(5)).astype(float)
    large = phantom(128, np.random.RandomState(5)).astype(float)
    averaged = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.abs(small - averaged).mean() < 1.5  # of 255
    assert np.abs(small - averaged).max() < 90


def test_a_share_of_crops_and_of_held_out_ones(folder):
    photos = CropSource(folder, 16, 2, 0)
    mixed = CropSource(folder, 16, 2, 0, phantoms=0.5)
    flat = sum(float(mixed.batch(step, 8).std(dim=(1, 2, 3)).eq(0).sum()) for step in range(20))
    assert 60 <= flat <= 100, "half of 160 crops are of one shade, as the folder's images are"
    assert (photos.validation_crops(16)[0] == mixed.validation_crops(16)[0]).all()
    assert (photos.validation_crops(16)[1] != mixed.validation_crops(16)[1]).any()
    assert (mixed.batch(3, 4) == CropSource(folder, 16, 2, 0, phantoms=0.5).batch(3, 4)).all()

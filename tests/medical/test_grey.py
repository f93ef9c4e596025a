"""The mapping from a scanner's numbers to grey, exact on made values."""

import numpy as np

from idm_lib.medical.grey import WHITE, grey, grey_volume, nearly_empty, percentile_range


def test_the_range_goes_to_black_and_white_and_what_is_outside_is_clipped():
    values = np.array([[-100.0, 0.0, 50.0, 100.0, 200.0]], np.float32)
    assert grey(values, 0, 100).tolist() == [[0, 0, 32768, 65535, 65535]]
    assert grey(values, 0, 100).dtype == np.uint16
    assert grey(values, 0, 100, inverted=True).tolist() == [[65535, 65535, 32768, 0, 0]]


def test_a_range_of_one_value_is_a_threshold():
    assert grey(np.array([[1.0, 2.0, 3.0]]), 2, 2).tolist() == [[0, 0, 65535]]


def test_what_is_not_finite_is_black_either_way():
    values = np.array([[np.nan, 1.0]])
    for low, high in ((0, 1), (0.5, 0.5)):
        assert grey(values, low, high).tolist() == [[0, 65535]]
        assert grey(values, low, high, inverted=True).tolist() == [[0, 0]]


def test_the_percentiles_are_those_of_the_volume_and_not_of_a_slice():
    volume = np.arange(4 * 1001, dtype=np.float32).reshape(4, 7, 143)
    low, high = percentile_range(volume)
    assert np.allclose((low, high), (4.003, 3998.997))
    shown = grey_volume(volume, None)
    expected = np.clip((volume.astype(np.float64) - low) / (high - low), 0, 1) * WHITE
    assert (shown == expected.round()).all()
    assert shown[0].max() < shown[1].min(), "a dark slice stays dark"
    volume[0, 0, 0] = np.inf
    assert percentile_range(volume)[1] < 4004
    assert percentile_range(np.full((1, 2, 2), np.nan)) == (0, 0)


def test_a_window_wins_over_percentiles():
    volume = np.array([[[0.0, 10.0, 20.0]]])
    assert grey_volume(volume, (10, 30)).tolist() == [[[0, 0, 32768]]]


def test_nearly_empty_is_less_than_a_twentieth_above_a_tenth():
    pixels = np.zeros((10, 10), np.uint16)
    pixels.flat[:4] = WHITE
    pixels.flat[4:50] = WHITE // 10
    assert nearly_empty(pixels)
    pixels.flat[4] = WHITE // 10 + 1
    assert not nearly_empty(pixels)

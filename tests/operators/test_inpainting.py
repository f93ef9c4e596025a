"""Inpainting: what each pattern shows and hides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import idm_lib as idm
from idm_lib.operators.masks import around_a_box, between_strokes, random_pixels

FEW = settings(max_examples=20, deadline=None)


@FEW
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 1.0), st.sampled_from(["random", "box", "strokes"]))
def test_at_least_the_asked_share_is_seen(height, width, ratio, pattern):
    op = idm.Inpainting((height, width), ratio, pattern)
    spare = op.measurements - ratio * height * width
    assert spare >= -1e-6
    assert spare < 1 if pattern != "box" else spare <= height + width, "and hardly more"
    assert op.true_ratio == op.measurements / (height * width)


def test_seen_pixels_come_back_in_reading_order_and_the_others_are_zero():
    mask = np.array([[1, 0, 1], [0, 1, 0]])
    op = idm.Inpainting((2, 3), mask=mask)
    x = torch.arange(1.0, 7).reshape(1, 1, 2, 3)
    assert op.A(x).tolist() == [[1, 3, 5]]
    assert op.A_dagger(op.A(x)).tolist() == [[[[1, 0, 3], [0, 5, 0]]]]


def test_a_box_is_one_rectangle_of_the_images_proportions():
    mask = around_a_box((40, 80), 0.75, seed=4)
    down, right = np.nonzero(~mask)
    assert (np.ptp(down) + 1, np.ptp(right) + 1, len(down)) == (20, 40, 800)


def test_strokes_are_thin_and_long():
    """Few hidden pixels have only hidden neighbours, and few have none: unlike boxes, and unlike dust."""
    hidden = ~between_strokes((128, 128), 0.8, seed=1)
    around = sum(np.roll(hidden, step, axis) for step in (-1, 1) for axis in (0, 1))[hidden]
    assert (around == 4).mean() < 0.45
    assert (around == 0).mean() < 0.05
    assert (around >= 2).mean() > 0.7


def test_random_pixels_are_nested_and_seeds_differ():
    few, many = random_pixels((20, 30), 0.2, 3), random_pixels((20, 30), 0.6, 3)
    assert not (few & ~many).any()
    for draw in (random_pixels, around_a_box, between_strokes):
        assert (draw((40, 40), 0.6, 1) == draw((40, 40), 0.6, 1)).all()
        assert (draw((40, 40), 0.6, 1) != draw((40, 40), 0.6, 2)).any()


def test_golden_numbers_so_that_saved_measurements_stay_readable():
    found = [
        np.flatnonzero(draw((16, 16), 0.6, 7))[[3, 30, -9]].tolist()
        for draw in (random_pixels, around_a_box, between_strokes)
    ]
    assert found == [[3, 46, 244], [13, 80, 247], [5, 48, 217]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs a ratio"),
        ({"ratio": 0.5, "mask": np.ones((8, 8))}, "not both"),
        ({"ratio": 0}, "ratio must lie in (0, 1]"),
        ({"ratio": 1.5}, "ratio must lie in (0, 1]"),
        ({"ratio": float("nan")}, "ratio must lie in (0, 1]"),
        ({"ratio": 0.5, "pattern": "dust"}, "random, box, strokes; got 'dust'"),
        ({"ratio": 0.5, "seed": -1}, "seed must be"),
        ({"mask": np.full((8, 8), np.nan)}, "or NaN"),
        ({"mask": np.full((8, 8), 2)}, "only 1, measured, and 0"),
        ({"mask": np.full((8, 8), "1")}, "only 1, measured, and 0"),
        ({"mask": np.zeros((8, 8))}, "measures nothing"),
        ({"mask": np.ones((8, 9))}, "shape (8, 8)"),
    ],
)
def test_bad_numbers_get_one_sentence(arguments, words):
    with pytest.raises(idm.InputError) as caught:
        idm.Inpainting((8, 8), **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

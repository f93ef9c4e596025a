"""Super-resolution: shrinking without aliasing, and the exact way back."""

import numpy as np
import pytest
import torch
from PIL import Image

import idm_lib as idm


@pytest.mark.parametrize("kernel", ["box", "bicubic"])
@pytest.mark.parametrize(("size", "factor"), [((12, 20), 4), ((9, 15), 3), ((4, 4), 4), ((2, 10), 2)])
def test_a_constant_stays_a_constant(kernel, size, factor):
    op = idm.SuperResolution(size, factor, kernel)
    y = op.A(torch.full((1, 1, *size), 0.3, dtype=torch.float64))
    assert y.shape == (1, size[0] * size[1] // factor**2)
    assert torch.allclose(y, torch.full_like(y, 0.3), atol=1e-14)
    assert op.true_ratio == op.measurements / (size[0] * size[1])


def test_a_box_is_the_average():
    x = torch.rand(2, 1, 12, 18, dtype=torch.float64)
    assert torch.allclose(
        idm.SuperResolution((12, 18), 3, "box").A(x), torch.nn.functional.avg_pool2d(x, 3).flatten(1)
    )


def test_bicubic_is_what_an_imaging_library_does():
    x = np.random.RandomState(0).rand(24, 36).astype(np.float32)
    small = np.asarray(Image.fromarray(x).resize((9, 6), Image.Resampling.BICUBIC))
    y = idm.SuperResolution((24, 36), 4).A(torch.from_numpy(x)[None, None])
    assert np.abs(y.reshape(6, 9).numpy() - small).max() < 1e-6


def test_what_the_small_image_cannot_show_is_filtered_out():
    stripes = (torch.arange(32) % 2).double().expand(1, 1, 32, 32)
    y = idm.SuperResolution((32, 32), 4).A(stripes).reshape(8, 8)
    assert float((y - 0.5)[:, 2:-2].abs().max()) < 0.01
    assert set(stripes[0, 0, ::4, ::4].flatten().tolist()) == {0.0}, "plain thinning would show a black image"


@pytest.mark.parametrize(
    ("size", "factor", "options", "words"),
    [
        ((8, 10), 4, {}, "multiples of the factor 4; got (8, 10)"),
        ((8, 8), 1, {}, "factor must be a whole number of at least 2"),
        ((8, 8), 2.0, {}, "factor must be a whole number"),
        ((8, 8), float("nan"), {}, "factor must be a whole number"),
        ((8, 8), 2, {"kernel": "lanczos"}, "box, bicubic; got 'lanczos'"),
    ],
)
def test_bad_numbers_get_one_sentence(size, factor, options, words):
    with pytest.raises(idm.InputError) as caught:
        idm.SuperResolution(size, factor, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

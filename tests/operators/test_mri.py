"""Magnetic resonance imaging: masks, conjugate pairs, coils."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import idm_lib as idm
from idm_lib.operators.masks import cartesian_lines, radial_spokes
from idm_lib.operators.mri import smooth_coils

FEW = settings(max_examples=15, deadline=None)


@FEW
@given(st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_with_every_frequency_it_is_invertible(height, width, complex_image):
    op = idm.MRI((height, width), 1.0, complex_image=complex_image)
    x = torch.rand(2, op.channels, height, width, dtype=torch.float64)
    assert op.measurements == 2 * height * width
    assert torch.allclose(op.A_dagger(op.A(x)), x, atol=1e-12)


def test_measurements_are_pairs_of_the_centred_spectrum():
    mask = np.random.RandomState(0).rand(7, 10) < 0.5
    image = torch.rand(7, 10, dtype=torch.complex128)
    op = idm.MRI((7, 10), mask=mask, complex_image=True)
    y = op.A(torch.stack([image.real, image.imag])[None])
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image.numpy()), norm="ortho"))
    assert np.allclose(y.numpy().view(np.complex128)[0], spectrum[mask])


def test_of_a_real_image_half_the_frequencies_are_enough():
    """Frequency −k is the conjugate of k: with one of each pair A⁺ A is the identity, though Aᵀ A is not."""
    mask = np.zeros((9, 9))
    mask[:4], mask[4, :5] = 1, 1
    op = idm.MRI((9, 9), mask=mask)
    x = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    assert torch.allclose(op.A_dagger(op.A(x)), x, atol=1e-12)
    assert not torch.allclose(op.A_adjoint(op.A(x)), x, atol=1e-2)


def test_contradicting_pairs_are_averaged():
    """Noise differs at k and −k; the best explanation of both is their mean."""
    op = idm.MRI((6, 6), 1.0)
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    y = op.A(x) + 0.1 * torch.rand(1, op.measurements, dtype=torch.float64)
    assert torch.allclose(op.A_adjoint(op.A(op.A_dagger(y)) - y), torch.zeros_like(x), atol=1e-12)


@FEW
@given(st.integers(4, 70), st.integers(4, 70), st.floats(0.02, 1.0), st.integers(0, 99))
def test_masks_hold_the_asked_share_with_the_middle_in(height, width, ratio, seed):
    lines = cartesian_lines((height, width), ratio, seed, centre=0.08)
    spokes = radial_spokes((height, width), ratio, seed)
    assert (lines == lines[0]).all()
    assert 0 <= lines[0].sum() - ratio * width + 1e-6 < 1 + 1e-6
    assert ratio * height * width - 1e-6 <= spokes.sum() <= ratio * height * width + 2 * max(height, width)
    assert lines[height // 2, width // 2]
    assert spokes[height // 2, width // 2]


def test_the_middle_lines_have_no_gap_and_the_seed_moves_the_others():
    one, two = (cartesian_lines((8, 100), 0.25, seed, centre=0.08)[0] for seed in (1, 2))
    assert one[46:54].all()
    assert two[46:54].all()
    assert (one != two).any()
    assert (radial_spokes((40, 40), 0.2, 1) != radial_spokes((40, 40), 0.2, 2)).any()


def test_coils_share_the_image_and_resolve_what_one_cannot():
    maps = smooth_coils(8, (24, 20))
    assert np.allclose((np.abs(maps) ** 2).sum(axis=0), 1)
    assert np.abs(maps[0] - maps[4]).max() > 0.3
    x = torch.rand(1, 2, 24, 20, dtype=torch.float64)
    errors = []
    for coils in (1, 8):
        op = idm.MRI((24, 20), 0.5, coils=coils, complex_image=True, tolerance=1e-4, max_iterations=5000)
        assert op.A(x).shape == (1, 2 * coils * op.true_ratio * 480)
        errors.append(float((op.A_dagger(op.A(x)) - x).norm()))
    assert errors[1] < 0.3 * errors[0]


def test_given_sensitivities_are_used():
    maps = np.random.RandomState(0).standard_normal((2, 6, 5)) + 1j
    op = idm.MRI((6, 5), 1.0, coils=2, sensitivities=maps, tolerance=1e-8)
    x = torch.rand(1, 1, 6, 5, dtype=torch.float64)
    expected = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(maps[1] * x[0, 0].numpy()), norm="ortho"))
    assert np.allclose(op.A(x).numpy().view(np.complex128)[0, 30:], expected.ravel())
    assert torch.allclose(op.A_dagger(op.A(x)), x, atol=1e-6)
    rebuilt = idm.operator_from_config(op.config(), op.arrays())
    assert torch.equal(rebuilt.A(x), op.A(x))


def test_golden_numbers_so_that_saved_measurements_stay_readable():
    found = [np.flatnonzero(cartesian_lines((4, 40), 0.3, 7, 0.1)[0]).tolist()[::4]]
    found.append(np.flatnonzero(radial_spokes((12, 12), 0.3, 7))[[2, 9, -3]].tolist())
    assert found == [[7, 19, 32], [19, 47, 131]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs a ratio"),
        ({"ratio": 0.5, "mask": np.ones((8, 8))}, "not both"),
        ({"ratio": 2}, "ratio must lie in (0, 1]"),
        ({"mask": np.full((8, 8), np.nan)}, "or NaN"),
        ({"ratio": 0.5, "pattern": "spiral"}, "cartesian, radial; got 'spiral'"),
        ({"ratio": 0.5, "centre": 0}, "centre must lie in (0, 1]"),
        ({"ratio": 0.5, "coils": 0}, "coils must be a whole number of at least 1"),
        ({"ratio": 0.5, "complex_image": 1}, "True or False"),
        ({"ratio": 0.5, "coils": 2, "sensitivities": np.ones((1, 8, 8))}, "shape (2, 8, 8)"),
        ({"ratio": 0.5, "sensitivities": np.full((1, 8, 8), np.nan)}, "must be finite"),
        ({"ratio": 0.5, "sensitivities": [[1, 0], [1]]}, "sensitivities must be an array"),
        ({"mask": [[1, 0], [1]]}, "mask must be an array"),
        ({"ratio": 0.5, "tolerance": 0}, "tolerance must lie in (0, 1)"),
        ({"ratio": 0.5, "max_iterations": 0}, "max_iterations must be"),
    ],
)
def test_bad_numbers_get_one_sentence(arguments, words):
    with pytest.raises(idm.InputError) as caught:
        idm.MRI((8, 8), **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

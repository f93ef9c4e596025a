"""Computed tomography: line integrals that can be known otherwise."""

import math

import numpy as np
import pytest
import torch

import idm_lib as idm


def disc(side, radius, fine=8):
    """A disc of ones, its edge pixels by the share inside, (1, 1, side, side)."""
    at = (np.arange(side * fine) + 0.5) / fine - side / 2
    inside = (at[:, None] ** 2 + at**2 < radius**2).astype(float)
    return torch.from_numpy(inside.reshape(side, fine, side, fine).mean(axis=(1, 3)))[None, None]


def test_a_disc_casts_its_chord_lengths():
    op = idm.ParallelBeamCT((64, 64), 12, normalised=False)
    shadow = op.A(disc(64, 20)).reshape(12, op.detectors)
    edges = np.arange(op.detectors + 1) - op.detectors / 2
    inside = np.clip(edges, -20, 20)
    area = inside * np.sqrt(400 - inside**2) + 400 * np.arcsin(inside / 20)  # of the disc, left of an edge
    chords = torch.from_numpy(np.diff(area))
    assert float((shadow - chords).abs().max()) < 1.5, "of 40, at the steep edge"
    assert float((shadow - chords)[:, 30:-30].abs().max()) < 0.2


@pytest.mark.parametrize("size", [(1, 1), (7, 12), (20, 9)])
def test_every_view_sees_the_whole_image(size):
    """Nothing is lost or counted twice: each view's sum is the image's."""
    x = torch.rand(2, 1, *size, dtype=torch.float64)
    op = idm.ParallelBeamCT(size, 17, normalised=False)
    sums = op.A(x).reshape(2, 17, -1).sum(dim=2)
    assert torch.allclose(sums, x.sum(dim=(1, 2, 3))[:, None].expand(2, 17), atol=1e-11)


def test_the_first_view_sums_columns_and_the_middle_one_rows():
    x = torch.rand(1, 1, 6, 8, dtype=torch.float64)
    y = idm.ParallelBeamCT((6, 8), 2, normalised=False).A(x).reshape(2, 10)
    assert torch.allclose(y[0, 1:9], x[0, 0].sum(dim=0))
    assert torch.allclose(y[1, 2:8], x[0, 0].sum(dim=1))


def test_a_pixels_shadow_is_the_trapezium_of_a_square():
    """Against 400 × 400 points of the pixel, binned."""
    op = idm.ParallelBeamCT((3, 3), 7, normalised=False)
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[..., 0, 2] = 1
    down, right = np.meshgrid(*2 * [(np.arange(400) + 0.5) / 400 - 0.5], indexing="ij")
    for view, shadow in enumerate(op.A(x).reshape(7, op.detectors).numpy()):
        angle = math.pi * view / 7
        at = (right + 1) * math.cos(angle) + (down - 1) * math.sin(angle) + op.detectors / 2
        counted = np.bincount(np.floor(at).astype(int).ravel(), minlength=op.detectors) / 160000
        assert np.abs(shadow - counted).max() < 5e-3


def test_normalised_means_a_norm_of_one():
    op = idm.ParallelBeamCT((9, 7), 6)
    matrix = op.A(torch.eye(63, dtype=torch.float64).reshape(63, 1, 9, 7))
    assert float(torch.linalg.matrix_norm(matrix, 2)) == pytest.approx(1, abs=1e-6)
    plain = idm.ParallelBeamCT((9, 7), 6, normalised=False)
    assert torch.allclose(matrix, op.scale * plain.A(torch.eye(63, dtype=torch.float64).reshape(63, 1, 9, 7)))


def test_a_short_row_of_detectors_sees_the_middle_of_a_long_one():
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    long, short = (idm.ParallelBeamCT((12, 12), 5, n, normalised=False).A(x).reshape(5, n) for n in (18, 8))
    assert torch.allclose(short, long[:, 5:13], atol=1e-12)


def test_noise_is_not_fitted():
    """With noise_std, A⁺ stops where the rest is noise; without, it would chase it."""
    x = disc(32, 10)
    op = idm.ParallelBeamCT((32, 32), 20, noise_std=0.02, normalised=True)
    y = op(x, seed=0)
    gentle = float((op.A_dagger(y) - x).norm())
    op.noise_std = 0.0
    op.tolerance, op.max_iterations = 5e-2, 5000
    eager = float((op.A_dagger(y) - x).norm())
    assert gentle < eager


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"views": 0}, "views must be a whole number of at least 1"),
        ({"views": 2.5}, "views must be"),
        ({"views": 4, "detectors": 0}, "detectors must be"),
        ({"views": 4, "normalised": "yes"}, "True or False"),
        ({"views": 4, "tolerance": 1}, "tolerance must lie in (0, 1)"),
    ],
)
def test_bad_numbers_get_one_sentence(arguments, words):
    with pytest.raises(idm.InputError) as caught:
        idm.ParallelBeamCT((8, 8), **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_matrix_is_kept_while_the_device_is():
    """A training step calls ``to`` every time, and to make the sparse matrix takes longer than to use it."""
    op = idm.ParallelBeamCT((16, 16), 8)
    x = torch.rand(1, 1, 16, 16)
    y = op.A(x)
    ready = dict(op._ready)
    assert ready
    assert op.to("cpu")._ready == ready
    assert op.to("cpu:0")._ready == ready
    assert op.to("meta")._ready == {}
    assert torch.equal(op.to("cpu").A(x), y)

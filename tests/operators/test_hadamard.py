"""The single-pixel camera: its patterns, their order, and the fast transform."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

import idm_lib as idm
from idm_lib.operators.hadamard import sequencies, walsh_hadamard


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_the_fast_transform_is_the_matrix(size):
    matrix = scipy.linalg.hadamard(size) / math.sqrt(size)
    found = walsh_hadamard(torch.eye(size, dtype=torch.float64)).numpy()
    assert np.abs(found - matrix).max() < 1e-14


@pytest.mark.parametrize("size", [1, 2, 4, 16, 64, 256])
def test_sequency_counts_sign_changes(size):
    changes = (np.diff(scipy.linalg.hadamard(size), axis=1) != 0).sum(axis=1)
    assert sequencies(size).tolist() == changes.tolist()


def patterns(op):
    """Row by row, (M, H, W), in units of ±1."""
    rows = op.A_adjoint(torch.eye(op.measurements, dtype=torch.float64))[:, 0]
    return rows * math.sqrt(rows[0].numel())


def test_patterns_are_signs_coarse_ones_first():
    found = patterns(idm.Hadamard((8, 16), 1.0))
    assert torch.allclose(found.abs(), torch.ones_like(found))
    down = (found.diff(dim=1) != 0).double().mean(dim=(1, 2)) * 7 / 8
    across = (found.diff(dim=2) != 0).double().mean(dim=(1, 2)) * 15 / 16
    assert bool(((down + across).diff() >= -1e-12).all())
    assert bool((found[0] == 1).all())


@pytest.mark.parametrize("ordering", ["sequency", "random"])
def test_nested_and_begun_with_the_mean(ordering):
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    few, many = (idm.Hadamard((16, 16), ratio, ordering, seed=3) for ratio in (0.1, 0.5))
    assert (few.measurements, few.true_ratio) == (26, 26 / 256)
    assert torch.equal(few.A(x), many.A(x)[:, :26])
    assert torch.allclose(few.A(x)[:, 0], x.sum(dim=(1, 2, 3)) / 16)


def test_a_random_order_depends_on_its_seed():
    x = torch.rand(1, 1, 16, 16)
    one, two = (idm.Hadamard((16, 16), 0.5, "random", seed=seed).A(x) for seed in (1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(one, idm.Hadamard((16, 16), 0.5, "random", seed=1).A(x))


def test_golden_numbers_so_that_saved_measurements_stay_readable():
    ramp = torch.arange(128, dtype=torch.float64).reshape(1, 1, 8, 16) ** 2 / 128**2
    coarse, random = (idm.Hadamard((8, 16), 0.5, o, seed=7).A(ramp)[0, :3].tolist() for o in ("sequency", "random"))
    assert np.allclose(coarse, [3.727157081498, -0.350791254729, 0.011048543456], atol=1e-10)
    assert np.allclose(random, [3.727157081498, 0.002762135864, 0.005524271728], atol=1e-10)


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        ((8, 12), {"ratio": 0.5}, "powers of two, as (64, 64); got (8, 12)"),
        ((8, 8), {"ratio": 0}, "ratio must lie in (0, 1]"),
        ((8, 8), {"ratio": 1.1}, "ratio must lie in (0, 1]"),
        ((8, 8), {"ratio": 0.5, "ordering": "cake"}, "sequency, random; got 'cake'"),
        ((8, 8), {"ratio": 0.5, "seed": 1.5}, "seed must be"),
    ],
)
def test_bad_numbers_get_one_sentence(size, options, words):
    with pytest.raises(idm.InputError) as caught:
        idm.Hadamard(size, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)

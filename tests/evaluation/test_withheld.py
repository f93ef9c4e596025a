"""Quality predicted from measurements that were held back: no bias, an honest interval, and use for them after."""

import numpy as np
import pytest
import torch

import idm_lib as idm
from idm_lib.evaluation import predict_quality, psnr, reconstruct, reveal, split_measurements
from idm_lib.operators import hold_back
from idm_lib.solvers import pinv

SIZE = (32, 64)


def trial(seed, noise_std=0.0, interpolate=False):
    """True mse and predicted quality of one estimate, under a fresh Φ, permutation and choice of rows."""
    generator = torch.Generator().manual_seed(seed if interpolate else 7)  # a fixed estimate, or a fresh one
    x = torch.randn(1, 1, *SIZE, generator=generator, dtype=torch.float64)  # whose parts all look alike
    op = idm.BlockCS(SIZE, 0.3, block_size=16, seed=seed, noise_std=noise_std)
    y = op.measure(x, seed=seed)
    kept, held = hold_back(op, 0.1, seed=seed)
    y_kept, y_held = split_measurements(y, kept, held)
    estimate = kept.A_dagger(y_kept) if interpolate else x + 0.1 * torch.randn(x.shape, generator=generator).double()
    quality = predict_quality(estimate, y_kept, kept, y_held, held, fit=float(interpolate))[0]
    return float((estimate - x).square().mean()), quality


def mse(decibels):
    return 10 ** (-decibels / 10)


@pytest.mark.parametrize("noise_std", [0.0, 0.05])
@pytest.mark.parametrize("interpolate", [False, True], ids=["independent estimate", "estimate that fits y"])
def test_no_bias_and_an_honest_interval(noise_std, interpolate):
    trials = [trial(seed, noise_std, interpolate) for seed in range(200)]
    ratios = np.array([mse(quality.psnr) / true for true, quality in trials])
    error = ratios.std() / len(ratios) ** 0.5  # of the Monte-Carlo mean
    assert error < 0.015
    assert abs(ratios.mean() - 1) < 4 * error
    inside = np.mean([quality.low <= -10 * np.log10(true) <= quality.high for true, quality in trials])
    assert inside >= 0.89, "0.95 − 4 × 0.0154: what 200 draws of a 95 % interval give"
    assert inside < 1, "an interval that is never wrong says too little"


def test_the_interval_narrows_with_samples_and_widens_with_confidence():
    op = idm.BlockCS((64, 64), 0.5)
    x = torch.rand(1, 1, 64, 64)
    widths = {}
    for share in (0.01, 0.2):
        kept, held = hold_back(op, share)
        y_kept, y_held = split_measurements(op.A(x), kept, held)
        for confidence in (0.5, 0.95):
            quality = predict_quality(kept.A_dagger(y_kept), y_kept, kept, y_held, held, confidence)[0]
            assert quality.low < quality.psnr < quality.high
            assert quality.samples == held.measurements
            widths[share, confidence] = quality.high - quality.low
    assert widths[0.2, 0.95] < widths[0.01, 0.95] / 2
    assert widths[0.01, 0.5] < widths[0.01, 0.95] / 2
    assert "dB" in str(quality)


def test_confidence_outside_its_range_is_refused():
    op = idm.BlockCS((8, 8), 0.5)
    kept, held = hold_back(op)
    y_kept, y_held = split_measurements(op.A(torch.rand(1, 1, 8, 8)), kept, held)
    for confidence in (0, 1, 95):
        with pytest.raises(idm.InputError, match="confidence"):
            predict_quality(torch.zeros(1, 1, 8, 8), y_kept, kept, y_held, held, confidence)


def test_revealing_lowers_the_error_and_explains_them():
    op = idm.BlockCS((64, 64), 0.5)
    x = torch.rand(3, 1, 64, 64, dtype=torch.float64)
    kept, held = hold_back(op, 0.05)
    y_kept, y_held = split_measurements(op.A(x), kept, held)
    before = kept.A_dagger(y_kept)
    after = reveal(before, y_held, held)
    assert bool(((after - x).square().mean((1, 2, 3)) < (before - x).square().mean((1, 2, 3))).all())
    assert torch.allclose(op.A(after), op.A(x), atol=1e-12)


def test_reconstruct_pools_channels_and_sees_nothing_of_what_is_held():
    op = idm.BlockCS((32, 32), 0.5, block_size=16)
    x = torch.rand(3, 1, 32, 32)
    seen = []

    def method(y, kept):
        seen.append(y.shape)
        return pinv(y, kept)

    result = reconstruct(op.A(x), op, method, hold=0.1)
    assert seen == [(3, op.measurements - result.predicted.samples)]
    assert result.predicted.low < float(psnr(result.image, x).mean()) < result.predicted.high
    assert reconstruct(op.A(x), op, pinv, hold=0).predicted is None


def test_a_method_that_gives_nan_is_named():
    op = idm.BlockCS((8, 8), 0.5)

    def broken(y, op):
        solution = pinv(y, op)
        solution.image[0, 0, 0, 0] = torch.nan
        return solution

    with pytest.raises(idm.InputError, match="NaN"):
        reconstruct(op.A(torch.rand(1, 1, 8, 8)), op, broken)


def test_images_with_a_permutation_each_are_predicted_as_they_are_alone():
    x = torch.rand(3, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for seeds, images in [((1, 2, 3), x), *(((seed,), x[i : i + 1]) for i, seed in enumerate((1, 2, 3)))]:
        op = idm.BlockCS(SIZE, 0.3, block_size=16, permutation_seed=seeds)
        kept, held = hold_back(op, 0.1)
        y_kept, y_held = split_measurements(op.A(images), kept, held)
        found.append(predict_quality(kept.A_dagger(y_kept), y_kept, kept, y_held, held))
    for together, (alone,) in zip(found[0], found[1:], strict=True):
        assert (together.psnr, together.low, together.high) == pytest.approx((alone.psnr, alone.low, alone.high))

"""PSNR and SSIM: scikit-image's own numbers, in the paper's protocol."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import idm_lib as idm
from idm_lib.evaluation import psnr, ssim


def pair(size=(31, 40), seed=0):
    rng = np.random.RandomState(seed)
    x = rng.rand(2, 1, *size)
    return torch.from_numpy(x + 0.1 * rng.standard_normal(x.shape)), torch.from_numpy(x)


def test_both_agree_with_scikit_image():
    estimate, x = pair()
    for i in range(2):
        a, b = estimate[i, 0].clamp(0, 1).numpy(), x[i, 0].numpy()
        assert float(psnr(estimate, x)[i]) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-10)
        wanted = structural_similarity(a * 255, b * 255, data_range=255, win_size=7)
        assert float(ssim(estimate, x)[i]) == pytest.approx(wanted, abs=1e-12)


def test_a_known_error_has_the_known_psnr():
    x = torch.full((1, 1, 8, 8), 0.5)
    assert float(psnr(x + 0.1, x)) == pytest.approx(20, abs=1e-5)
    assert float(psnr(x + 9, x)) == pytest.approx(-20 * np.log10(0.5), abs=1e-5), "clamped to [0, 1] first"
    assert float(psnr(x, x)) == float("inf")
    assert float(ssim(x, x)) == 1.0


@pytest.mark.parametrize("shapes", [((1, 1, 8, 8), (1, 1, 8, 9)), ((1, 3, 8, 8), (1, 3, 8, 8)), ((8, 8), (8, 8))])
def test_other_shapes_are_refused(shapes):
    a, b = (torch.zeros(shape) for shape in shapes)
    for metric in (psnr, ssim):
        with pytest.raises(idm.InputError, match=r"must both be \(B, 1, H, W\)"):
            metric(a, b)


def test_ssim_needs_its_window():
    with pytest.raises(idm.InputError, match="at least 7 × 7"):
        ssim(torch.zeros(1, 1, 6, 20), torch.zeros(1, 1, 6, 20))

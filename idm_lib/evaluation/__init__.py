"""Evaluation: PSNR and SSIM in the paper's protocol, test sets, predicted quality."""

from idm_lib.evaluation.metrics import psnr, ssim
from idm_lib.evaluation.reconstruct import Reconstruction, reconstruct
from idm_lib.evaluation.testset import evaluate, load_test_set
from idm_lib.evaluation.withheld import PredictedQuality, predict_quality, reveal, split_measurements

__all__ = [
    "PredictedQuality",
    "Reconstruction",
    "evaluate",
    "load_test_set",
    "predict_quality",
    "psnr",
    "reconstruct",
    "reveal",
    "split_measurements",
    "ssim",
]

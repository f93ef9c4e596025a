"""Measurement operators: A, Aᵀ, A⁺ and their tests. Nothing here knows of networks."""

from idm_lib.operators.base import LinearOperator
from idm_lib.operators.block_cs import BlockCS
from idm_lib.operators.configuration import operator_class, operator_from_config, operator_names
from idm_lib.operators.conjugate_gradients import cg_pseudo_inverse
from idm_lib.operators.ct import ParallelBeamCT
from idm_lib.operators.hadamard import Hadamard
from idm_lib.operators.image_operator import ImageOperator
from idm_lib.operators.inpainting import Inpainting
from idm_lib.operators.kspace import KSpaceMeasurements, load_kspace
from idm_lib.operators.measurements import Measurements, load_measurements, save_measurements
from idm_lib.operators.mri import MRI
from idm_lib.operators.subset import Subset, hold_back
from idm_lib.operators.super_resolution import SuperResolution
from idm_lib.operators.testing import dot_test, projection_test, pseudo_inverse_test
from idm_lib.operators.wrapped import Wrapped

__all__ = [
    "MRI",
    "BlockCS",
    "Hadamard",
    "ImageOperator",
    "Inpainting",
    "KSpaceMeasurements",
    "LinearOperator",
    "Measurements",
    "ParallelBeamCT",
    "Subset",
    "SuperResolution",
    "Wrapped",
    "cg_pseudo_inverse",
    "dot_test",
    "hold_back",
    "load_kspace",
    "load_measurements",
    "operator_class",
    "operator_from_config",
    "operator_names",
    "projection_test",
    "pseudo_inverse_test",
    "save_measurements",
]

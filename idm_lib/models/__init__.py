"""Networks: the reversible U-Net, the denoiser (the prior), the invertible diffusion model."""

from idm_lib.models.config import UNetConfig
from idm_lib.models.denoiser import Denoiser
from idm_lib.models.idm import InvertibleDiffusion
from idm_lib.models.inference import InferenceOptions, optimised
from idm_lib.models.stable_diffusion import PruningReport, load_stable_diffusion
from idm_lib.models.unet import ReversibleUNet

__all__ = [
    "Denoiser",
    "InferenceOptions",
    "InvertibleDiffusion",
    "PruningReport",
    "ReversibleUNet",
    "UNetConfig",
    "load_stable_diffusion",
    "optimised",
]

"""Networks: the reversible U-Net, the denoiser (the prior)."""

from idm_lib.models.denoiser import Denoiser
from idm_lib.models.unet import ReversibleUNet, UNetConfig

__all__ = ["Denoiser", "ReversibleUNet", "UNetConfig"]

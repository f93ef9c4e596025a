"""Invertible diffusion models for compressed sensing.

The public names below load on first use, so that ``import idm_lib`` and ``idm --help`` stay quick:
torch, diffusers and scikit-image are imported only by what needs them.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "InputError": "idm_lib.errors",
    "BlockCS": "idm_lib.operators",
    "Inpainting": "idm_lib.operators",
    "SuperResolution": "idm_lib.operators",
    "MRI": "idm_lib.operators",
    "ParallelBeamCT": "idm_lib.operators",
    "Hadamard": "idm_lib.operators",
    "Wrapped": "idm_lib.operators",
    "LinearOperator": "idm_lib.operators",
    "operator_from_config": "idm_lib.operators",
    "save_measurements": "idm_lib.operators",
    "load_measurements": "idm_lib.operators",
    "load_kspace": "idm_lib.operators",
    "Coupling": "idm_lib.reversible",
    "WiredCoupling": "idm_lib.reversible",
    "AdditiveCoupling": "idm_lib.reversible",
    "AffineCoupling": "idm_lib.reversible",
    "ReversibleChain": "idm_lib.reversible",
    "MemoryPolicy": "idm_lib.memory",
    "Denoiser": "idm_lib.models",
    "InvertibleDiffusion": "idm_lib.models",
    "CompressedSensingPipeline": "idm_lib.pipelines",
    "InferenceOptions": "idm_lib.models",
    "optimised": "idm_lib.models",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'idm_lib' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])

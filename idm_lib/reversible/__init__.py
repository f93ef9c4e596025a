"""Backpropagation through deep chains of invertible links, with memory that does not grow with depth."""

from idm_lib.reversible.chain import ReversibleChain
from idm_lib.reversible.couplings import (
    AdditiveCoupling,
    AffineCoupling,
    Coupling,
    WiredCoupling,
    widened_range,
)
from idm_lib.reversible.drift import DriftLog, DriftWarning
from idm_lib.reversible.free_coupling import FreeCoupling
from idm_lib.reversible.reconstruction import reconstruction_errors
from idm_lib.reversible.replay import ATTENTION
from idm_lib.reversible.rounding import AUTO, EXACT

__all__ = [
    "ATTENTION",
    "AUTO",
    "EXACT",
    "AdditiveCoupling",
    "AffineCoupling",
    "Coupling",
    "DriftLog",
    "DriftWarning",
    "FreeCoupling",
    "ReversibleChain",
    "WiredCoupling",
    "reconstruction_errors",
    "widened_range",
]

"""Backpropagation through deep chains of invertible links, with memory that does not grow with depth."""

from idm_lib.reversible.couplings import (
    AdditiveCoupling,
    AffineCoupling,
    Coupling,
    WiredCoupling,
    widened_range,
)

__all__ = [
    "AdditiveCoupling",
    "AffineCoupling",
    "Coupling",
    "WiredCoupling",
    "widened_range",
]

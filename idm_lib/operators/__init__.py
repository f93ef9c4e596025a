"""Measurement operators: A, Aᵀ, A⁺ and their tests. Nothing here knows of networks."""

from idm_lib.operators.base import LinearOperator
from idm_lib.operators.block_cs import BlockCS
from idm_lib.operators.subset import Subset, hold_back
from idm_lib.operators.testing import dot_test, projection_test, pseudo_inverse_test

__all__ = [
    "BlockCS",
    "LinearOperator",
    "Subset",
    "dot_test",
    "hold_back",
    "projection_test",
    "pseudo_inverse_test",
]

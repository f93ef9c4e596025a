"""Measurement operators: A, Aᵀ, A⁺ and their tests. Nothing here knows of networks."""

from idm_lib.operators.base import LinearOperator
from idm_lib.operators.block_cs import BlockCS
from idm_lib.operators.testing import dot_test, projection_test, pseudo_inverse_test

__all__ = ["BlockCS", "LinearOperator", "dot_test", "projection_test", "pseudo_inverse_test"]

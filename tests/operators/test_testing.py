"""The operator checks must find the faults that they are there to find."""

import pytest
import torch

import idm_lib as idm
from idm_lib.operators import LinearOperator, dot_test, projection_test, pseudo_inverse_test


class Scaled(LinearOperator):
    """A = 2·(every second pixel); its adjoint and pseudo-inverse as told, right or wrong."""

    def __init__(self, adjoint=2.0, dagger=0.5, drop=0):
        super().__init__()
        self.adjoint, self.dagger, self.drop = adjoint, dagger, drop

    def A(self, x):
        return 2 * x.flatten(1)[:, ::2]

    def _up(self, y):
        return torch.stack([y, torch.zeros_like(y)], 2).reshape(len(y), 1, 4, 4)[..., self.drop :]

    def A_adjoint(self, y):
        return self.adjoint * self._up(y)

    def A_dagger(self, y):
        return self.dagger * self._up(y)


SHAPE = (2, 1, 4, 4)


def test_a_right_operator_passes():
    op = Scaled()
    assert max(dot_test(op, SHAPE), pseudo_inverse_test(op, SHAPE), projection_test(op, SHAPE)) < 1e-14


def test_wrong_ones_do_not():
    assert dot_test(Scaled(adjoint=1.0), SHAPE) > 1e-3
    assert pseudo_inverse_test(Scaled(dagger=1.0), SHAPE) > 1e-3
    assert projection_test(Scaled(dagger=1.0), SHAPE) > 1e-3
    with pytest.raises(idm.InputError, match=r"shape \(2, 1, 4, 4\); got \(2, 1, 4, 3\)"):
        dot_test(Scaled(drop=1), SHAPE)


def test_noise_and_configuration_of_the_base_class():
    with pytest.raises(idm.InputError, match="config"):
        Scaled().config()
    x = torch.rand(SHAPE)
    op = Scaled()
    assert torch.equal(op.range_projection(x) + op.null_projection(x), x)

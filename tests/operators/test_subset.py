"""Holding measurements back: the two parts are operators in their own right and together the whole."""

import pytest
import torch

import idm_lib as idm
from idm_lib.operators import dot_test, hold_back, projection_test, pseudo_inverse_test


@pytest.mark.parametrize("size", [(3, 4), (37, 95), (64, 64)])
def test_both_parts_are_orthonormal_operators(size):
    op = idm.BlockCS(size, 0.4)
    for part in hold_back(op):
        assert dot_test(part, (2, 1, *size)) < 1e-12
        assert pseudo_inverse_test(part, (2, 1, *size)) < 1e-12
        assert projection_test(part, (2, 1, *size)) < 1e-12


def test_the_parts_are_disjoint_and_complete():
    op = idm.BlockCS((64, 64), 0.5)
    kept, held = hold_back(op, 0.01)
    both = torch.cat([kept.indices, held.indices]).sort().values
    assert torch.equal(both, torch.arange(op.measurements))
    assert held.measurements == 32, "one in a hundred of 2048 is fewer than the least that says anything"
    assert kept.true_ratio + held.true_ratio == pytest.approx(op.true_ratio)
    x = torch.rand(2, 1, 64, 64)
    assert torch.equal(kept.A(x), op.A(x)[:, kept.indices])


def test_the_choice_depends_on_the_seed_alone():
    op = idm.BlockCS((64, 64), 0.5)
    assert torch.equal(hold_back(op, seed=1)[1].indices, hold_back(op, seed=1)[1].indices)
    assert not torch.equal(hold_back(op, seed=1)[1].indices, hold_back(op, seed=2)[1].indices)


def test_too_few_to_spare_and_bad_fractions_are_refused():
    with pytest.raises(idm.InputError, match="too few"):
        hold_back(idm.BlockCS((3, 3), 0.1))
    for fraction in (0, 1, -0.1):
        with pytest.raises(idm.InputError, match="fraction"):
            hold_back(idm.BlockCS((8, 8), 0.5), fraction)
    with pytest.raises(idm.InputError, match="restrict"):
        hold_back(idm.BlockCS((8, 8), 0.5))[0].A_adjoint(torch.rand(1, 3))

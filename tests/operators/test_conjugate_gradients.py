"""A⁺ from A and Aᵀ alone: right where the answer is known, plain where there is none."""

import pytest
import torch

import idm_lib as idm
from idm_lib.operators import LinearOperator, cg_pseudo_inverse, dot_test, pseudo_inverse_test


class Dense(LinearOperator):
    """A given matrix, (M, HW), on 4 × 4 images."""

    def __init__(self, matrix, transpose=None):
        super().__init__()
        self.matrix, self.transpose = matrix, matrix.T if transpose is None else transpose
        self.calls = 0

    def A(self, x):
        self.calls += 1
        return x.flatten(1) @ self.matrix.T.to(x.dtype)

    def A_adjoint(self, y):
        return (y @ self.transpose.T.to(y.dtype)).reshape(-1, 1, 4, 4)

    def A_dagger(self, y):
        return cg_pseudo_inverse(self, y, tolerance=1e-10)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("rows", "rank"), [(7, 7), (16, 16), (30, 16), (20, 5)])
def test_it_is_the_pseudo_inverse_and_its_gradient_too(rows, rank):
    op = Dense(gaussian(rows, rank) @ gaussian(rank, 16, seed=1))
    assert dot_test(op, (2, 1, 4, 4)) < 1e-12
    assert pseudo_inverse_test(op, (2, 1, 4, 4)) < 1e-9
    inverse = torch.linalg.pinv(op.matrix, rtol=1e-9)
    y = gaussian(3, rows, seed=2).requires_grad_()  # for the most part in no image's range
    found = op.A_dagger(y)
    assert torch.allclose(found.flatten(1), y @ inverse.T, atol=1e-7 * float(inverse.norm()))
    v = gaussian(3, 1, 4, 4, seed=3)
    found.backward(v)
    assert torch.allclose(y.grad, v.flatten(1) @ inverse, atol=1e-7 * float(inverse.norm()))


def test_it_stops_when_it_may():
    """A looser tolerance takes fewer evaluations, and is kept; noise stops it sooner still."""
    op = Dense(gaussian(16, 16))
    y = op.A(gaussian(1, 1, 4, 4, seed=1))
    counts = []
    for options in ({"tolerance": 1e-6}, {"tolerance": 1e-2}, {"noise_std": 2.0}):
        op.calls = 0
        x = cg_pseudo_inverse(op, y, **options)
        counts.append(op.calls)
        left = float((op.A(x) - y).norm())
        assert left <= max(options.get("tolerance", 1e-4) * float(y.norm()), options.get("noise_std", 0.0) * 4)
    assert counts[0] > counts[1] > counts[2] > 0


def test_nothing_measured_gives_nothing():
    op = Dense(gaussian(7, 16))
    assert torch.equal(op.A_dagger(torch.zeros(2, 7)), torch.zeros(2, 1, 4, 4))


def test_at_zero_the_gradient_is_still_that_of_the_pseudo_inverse():
    """The image takes no iteration there, but its gradient needs some; where all is noise, there is none."""
    op = Dense(gaussian(7, 16))
    v = gaussian(2, 1, 4, 4, seed=3)
    expected = v.flatten(1) @ torch.linalg.pinv(op.matrix)
    for noise_std, factor in ((0.0, 1.0), (1e3, 0.0)):
        y = torch.zeros(2, 7, dtype=torch.float64, requires_grad=True)
        found = cg_pseudo_inverse(op, y, 1e-10, noise_std=noise_std)
        assert not found.any()
        found.backward(v)
        assert torch.allclose(y.grad, factor * expected, atol=1e-7)


def test_neither_an_image_nor_its_gradient_depends_on_the_rest_of_its_batch():
    """One that explains y at once and one that takes long, alone and together."""
    u, _, w = torch.linalg.svd(gaussian(16, 16))
    op = Dense(u @ torch.diag(torch.linspace(1, 0.05, 16, dtype=torch.float64)) @ w)
    y = torch.stack([u[:, 0], gaussian(16, seed=1)])  # A's first singular vector takes one iteration

    def both(y, v):
        y = y.clone().requires_grad_()
        x = cg_pseudo_inverse(op, y, 1e-2)
        x.backward(v)
        return x.detach(), y.grad

    v = gaussian(2, 1, 4, 4, seed=2)
    together = both(y, v)
    for i in range(2):
        for alone, among in zip(both(y[i : i + 1], v[i : i + 1]), together, strict=True):
            assert torch.allclose(alone[0], among[i], atol=1e-6)  # CG amplifies rounding


def test_an_empty_batch():
    y = torch.zeros(0, 7, dtype=torch.float64, requires_grad=True)
    x = Dense(gaussian(7, 16)).A_dagger(y)
    x.sum().backward()
    assert x.shape == (0, 1, 4, 4)
    assert y.grad.shape == (0, 7)


def test_where_it_does_not_converge_it_says_so_and_what_to_do():
    op = Dense(gaussian(16, 16))
    y = gaussian(1, 16, seed=1)
    with pytest.raises(idm.InputError, match=r"did not converge: after 2 iterations .* raise tolerance") as caught:
        cg_pseudo_inverse(op, y, max_iterations=2)
    assert "\n" not in str(caught.value)
    wrong = Dense(gaussian(16, 16), transpose=gaussian(16, 16, seed=5))
    with pytest.raises(idm.InputError, match="see with dot_test"):
        cg_pseudo_inverse(wrong, y)


def test_what_is_unfinished_may_be_wanted_but_not_what_is_no_number():
    op = Dense(gaussian(16, 16))
    x = gaussian(1, 1, 4, 4, seed=1)
    y = op.A(x)
    errors = [float((cg_pseudo_inverse(op, y, 1e-8, n, strict=False) - x).norm()) for n in (2, 6, 12)]
    assert errors[0] > errors[1] > errors[2] > 1e-6
    with pytest.raises(idm.InputError, match="did not converge"):
        cg_pseudo_inverse(Dense(gaussian(16, 16) * 1e200), y, strict=False)


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"tolerance": float("nan")}, {"max_iterations": 0}])
def test_bad_limits_are_refused(options):
    with pytest.raises(idm.InputError, match=next(iter(options))):
        cg_pseudo_inverse(Dense(gaussian(7, 16)), torch.rand(1, 7), **options)

"""What every operator promises, whatever it measures: one test for all."""

import json
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import idm_lib as idm
from idm_lib.operators import dot_test, projection_test, pseudo_inverse_test

FEW = settings(max_examples=12, deadline=None)
SIDES = st.integers(3, 41)


@dataclass
class Case:
    """A way to build an operator: for what sizes, how exact its A⁺ is, whether its rows are orthonormal."""

    build: Any
    multiple: int = 1  # of the sides
    power: bool = False  # sides are powers of two
    exact: float = 1e-11  # ‖A A⁺ A x − A x‖ / ‖A x‖
    iterative: bool = False  # A⁺ by conjugate gradients
    orthonormal: bool = True

    def size(self, height, width):
        if self.power:
            return 1 << (height % 6), 1 << (width % 6)
        return height // self.multiple * self.multiple + self.multiple, width + (-width) % self.multiple


def physics(size):
    class Every:
        """deepinv's names, measurements of a shape of their own, no A⁺."""

        def A(self, x):
            return 2 * x[..., ::2, :]

        def A_adjoint(self, y):
            return 2 * torch.stack([y, torch.zeros_like(y)], 3).flatten(2, 3)[..., : size[0], :]

    return Every()


CASES = {
    "block-cs": Case(lambda size, **noise: idm.BlockCS(size, 0.3, block_size=8, **noise)),
    "inpainting-random": Case(lambda size, **noise: idm.Inpainting(size, 0.4, "random", **noise)),
    "inpainting-box": Case(lambda size, **noise: idm.Inpainting(size, 0.8, "box", **noise)),
    "inpainting-strokes": Case(lambda size, **noise: idm.Inpainting(size, 0.7, "strokes", **noise)),
    "inpainting-mask": Case(lambda size, **noise: idm.Inpainting(size, mask=np.indices(size).sum(0) % 2, **noise)),
    "sr-bicubic": Case(lambda size, **n: idm.SuperResolution(size, 3, **n), multiple=3, orthonormal=False),
    "sr-box": Case(lambda size, **n: idm.SuperResolution(size, 2, "box", **n), multiple=2, orthonormal=False),
    "hadamard": Case(lambda size, **noise: idm.Hadamard(size, 0.3, **noise), power=True),
    "hadamard-random": Case(lambda size, **noise: idm.Hadamard(size, 0.6, "random", **noise), power=True),
    "mri-real": Case(lambda size, **noise: idm.MRI(size, 0.4, **noise), orthonormal=False),
    "mri-radial": Case(lambda size, **noise: idm.MRI(size, 0.3, "radial", **noise), orthonormal=False),
    "mri-complex": Case(lambda size, **noise: idm.MRI(size, 0.4, complex_image=True, **noise)),
    "mri-coils": Case(
        lambda size, **n: idm.MRI(size, 0.4, coils=3, complex_image=True, tolerance=1e-6, max_iterations=9999, **n),
        exact=1e-6,
        iterative=True,
        orthonormal=False,
    ),
    "ct": Case(
        lambda size, **n: idm.ParallelBeamCT(size, 5, tolerance=1e-6, max_iterations=9999, **n),
        exact=1e-6,
        iterative=True,
        orthonormal=False,
    ),
    "wrapped": Case(
        lambda size, **noise: idm.Wrapped(physics(size), size, **noise),
        exact=1e-6,
        iterative=True,
        orthonormal=False,
    ),
}
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def image(op, batch=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, getattr(op, "channels", 1), *op.image_size)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


@ALL
@FEW
@given(SIDES, SIDES)
def test_adjoint_pseudo_inverse_and_projections_at_random_sizes(case, height, width):
    op = case.build(case.size(height, width))
    shape = tuple(image(op).shape)
    assert op.A(image(op)).shape == (2, op.measurements)
    assert dot_test(op, shape) < 1e-12
    assert dot_test(op, shape, dtype=torch.float32) < 1e-6
    assert pseudo_inverse_test(op, shape) < case.exact
    if not case.iterative:  # what A barely sees is beyond a tolerance on y
        assert projection_test(op, shape) < case.exact


def dense(op, shape):
    """A as a matrix, (M, C·H·W), for images of shape (C, H, W)."""
    return op.A(torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)).T


@ALL
def test_dagger_is_the_pseudo_inverse_and_its_gradient_the_transpose(case):
    """Against numpy's, column by column; and its gradient, for any y, in the range of A or not.

    An iteration leaves its tolerance times the condition of A where A barely sees, and its tolerance as a rule.
    """
    op = case.build((8, 8) if case.power else case.size(6, 9))
    x, generator = image(op), torch.Generator().manual_seed(0)
    matrix = dense(op, x.shape[1:])
    inverse = torch.linalg.pinv(matrix, rtol=1e-9)  # (CHW, M)
    y = torch.eye(op.measurements, dtype=torch.float64)
    found = op.A_dagger(y).flatten(1).T
    assert float((found - inverse).norm() / inverse.norm()) < 100 * case.exact
    rows = matrix @ matrix.T
    assert bool(torch.allclose(rows, torch.eye(len(rows), dtype=rows.dtype), atol=1e-12)) == case.orthonormal

    condition, errors = float(torch.linalg.matrix_norm(matrix, 2) * torch.linalg.matrix_norm(inverse, 2)), []
    for seed in range(16):
        y = op.A(image(op, 3, seed))
        y = (y if seed % 2 else torch.rand(y.shape, generator=generator, dtype=y.dtype)).requires_grad_()
        v = image(op, 3, seed + 100)
        (gradient,) = torch.autograd.grad((op.A_dagger(y) * v).sum(), y)
        expected = v.flatten(1) @ inverse
        errors.append(float((gradient - expected).norm() / expected.norm()))
    assert statistics.median(errors) < 10 * case.exact
    assert max(errors) < 10 * case.exact * condition


@ALL
def test_gradients_through_a_and_its_adjoint(case):
    op = case.build((16, 32) if case.power else case.size(10, 13))
    x = image(op).requires_grad_()
    (0.5 * op.A(x).square().sum()).backward()
    assert torch.allclose(x.grad, op.A_adjoint(op.A(x.detach())), atol=1e-12)
    y = torch.rand(2, op.measurements, dtype=torch.float64, requires_grad=True)
    (0.5 * op.A_adjoint(y).square().sum()).backward()
    assert torch.allclose(y.grad, op.A(op.A_adjoint(y.detach())), atol=1e-12)


@ALL
def test_an_image_does_not_depend_on_its_batch(case):
    op = case.build((16, 32) if case.power else case.size(10, 13))
    x = image(op, batch=3) * torch.tensor([1.0, 1e-3, 0.0], dtype=torch.float64)[:, None, None, None]
    y = op.A(x)
    for i in range(3):
        assert torch.allclose(op.A(x[i : i + 1]), y[i : i + 1], atol=1e-13)
        assert torch.allclose(op.A_adjoint(y[i : i + 1]), op.A_adjoint(y)[i : i + 1], atol=1e-13)
        assert torch.allclose(op.A_dagger(y[i : i + 1]), op.A_dagger(y)[i : i + 1], atol=1e-10)


@ALL
def test_precision_follows_the_input_but_never_below_float32(case):
    op = case.build((16, 32) if case.power else case.size(10, 13))
    x = image(op)
    y = op.A(x)
    for dtype in (torch.float32, torch.float16):
        measured = op.A(x.to(dtype))
        assert measured.dtype == torch.float32
        assert op.A_adjoint(measured.to(dtype)).dtype == op.A_dagger(measured.to(dtype)).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert (op.A(x.float()) - y).norm() / y.norm() < 1e-6, "autocast must not reach the operator"
        assert (op.A_adjoint(y.float()) - op.A_adjoint(y)).norm() / y.norm() < 1e-6
        back = op.A_dagger(y)
        assert (op.A_dagger(y.float()) - back).norm() / back.norm() < 1e-4


@ALL
def test_noise_is_seeded_and_of_the_stated_strength(case):
    op = case.build((32, 32) if case.power else case.size(32, 33), noise_std=0.05)
    x = image(op, batch=4)
    noise = op(x, seed=1) - op.A(x)
    assert torch.equal(op(x, seed=1), op.measure(x, seed=1))
    assert abs(float(noise.std()) / 0.05 - 1) < 0.08
    with pytest.raises(idm.InputError, match="seed"):
        op(x)


@ALL
def test_rebuilt_from_a_few_saved_numbers(case):
    op = case.build((16, 32) if case.power else case.size(10, 13), noise_std=0.1)
    if isinstance(op, idm.Wrapped):
        with pytest.raises(idm.InputError, match="cannot be saved"):
            op.config()
        return
    saved = json.dumps(op.config())
    assert len(saved) < 400
    rebuilt = idm.operator_from_config(json.loads(saved), op.arrays())
    assert type(rebuilt) is type(op)
    assert torch.equal(rebuilt.A(image(op)), op.A(image(op)))
    assert (rebuilt.config(), rebuilt.noise_std) == (op.config(), 0.1)


@ALL
def test_bad_input_gets_one_sentence(case):
    size = (16, 32) if case.power else case.size(10, 13)
    op = case.build(size)
    x = image(op)
    nan = torch.full_like(x, float("nan"))
    for bad, words in (
        (lambda: op.A(x[..., :-1]), "x must have shape"),
        (lambda: op.A(x[0]), "x must have shape"),
        (lambda: op.A(x.repeat(1, 3, 1, 1)), "x must have shape"),
        (lambda: op.A(nan), "NaN or infinite"),
        (lambda: op.A((x * 255).to(torch.uint8)), "floating point"),
        (lambda: op.A([1.0]), "torch tensor; got list"),
        (lambda: case.build(size).to("meta").A(x), "operator is on meta"),
        (lambda: op.A_adjoint(op.A(x)[:, 1:]), "y must have shape"),
        (lambda: op.A_dagger(op.A(x)[:, 1:]), "y must have shape"),
        (lambda: op.A_dagger(op.A(x) * float("inf")), "NaN or infinite"),
        (lambda: case.build(size, noise_std=-1), "noise_std must be"),
        (lambda: case.build((0, 8)), "image_size must be"),
    ):
        with pytest.raises(idm.InputError) as caught:
            bad()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.gpu
@ALL
def test_same_numbers_on_a_gpu(case):
    same_numbers_on(torch.device("cuda"), case)


def same_numbers_on(device, case):
    """An operator made on the CPU and moved; noise is drawn there too."""
    op = case.build((16, 32) if case.power else case.size(10, 13), noise_std=0.1)
    x = image(op)
    y = op(x, seed=3)
    back, inverse = op.A_adjoint(y), op.A_dagger(y)
    op.to(device)
    assert torch.allclose(op(x.to(device), seed=3).cpu(), y, atol=1e-12)
    assert torch.allclose(op.A_adjoint(y.to(device)).cpu(), back, atol=1e-12)
    assert float((op.A_dagger(y.to(device)).cpu() - inverse).norm() / inverse.norm()) < 1e-5

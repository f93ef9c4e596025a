"""BlockCS: what design and paper promise of the operator, at random sizes and ratios."""

import json
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import idm_lib as idm
from idm_lib.operators import dot_test, projection_test, pseudo_inverse_test

SIDES = st.integers(1, 300)
RATIOS = st.floats(0.001, 1.0)
FEW = settings(max_examples=25, deadline=None)


def image(op, batch=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, *op.image_size, generator=generator, dtype=dtype)


@FEW
@given(SIDES, SIDES, RATIOS, st.integers(0, 2**32 - 1))
@example(1, 1, 0.5, 0)
@example(300, 300, 0.1, 0)
@example(32, 32, 1.0, 0)
@example(31, 33, 0.001, 0)
def test_adjoint_pseudo_inverse_and_projections(height, width, ratio, seed):
    op = idm.BlockCS((height, width), ratio, seed=seed)
    shape = (2, 1, height, width)
    assert op.A_adjoint(op.A(image(op))).shape == shape
    assert dot_test(op, shape) < 1e-12
    assert pseudo_inverse_test(op, shape) < 1e-12
    assert projection_test(op, shape) < 1e-12


@FEW
@given(SIDES, SIDES, RATIOS)
@example(1, 1, 0.5)
@example(37, 95, 0.3)
@example(64, 64, 0.1)
def test_rows_are_orthonormal_at_every_size(height, width, ratio):
    op = idm.BlockCS((height, width), ratio)
    y = torch.randn(3, op.measurements, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(op.A(op.A_adjoint(y)), y, rtol=0, atol=1e-12)  # A Aᵀ = I
    assert torch.equal(op.A_dagger(y), op.A_adjoint(y))


@FEW
@given(SIDES, SIDES, RATIOS)
@example(37, 95, 0.3)
@example(32, 32, 0.1)
def test_count_is_the_promised_one(height, width, ratio):
    op = idm.BlockCS((height, width), ratio)
    blocks, rest = divmod(height * width, 1024)
    promised = blocks * math.ceil(ratio * 1024 - 1e-9) + math.ceil(ratio * rest - 1e-9)
    assert op.A(image(op)).shape == (2, promised)
    assert op.measurements == promised
    assert op.true_ratio == promised / (height * width)
    assert promised - ratio * height * width < blocks + 1  # less than one row above γ for each block


def test_the_papers_counts_at_a_multiple_of_32():
    for ratio, rows in [(0.1, 103), (0.3, 308), (0.5, 512)]:
        assert idm.BlockCS((256, 256), ratio).measurements == 64 * rows


def test_equals_the_dense_definition():
    """y = (P x) Φ written out with explicit matrices, one block and a rest."""
    op = idm.BlockCS((7, 5), 0.4, block_size=4, seed=3)  # 35 pixels: two blocks of 16 and 3 over
    dense = op.A(torch.eye(35, dtype=torch.float64).reshape(35, 1, 7, 5)).T  # (M, 35)
    assert dense.shape == (2 * 7 + 2, 35)
    assert torch.allclose(dense @ dense.T, torch.eye(16, dtype=torch.float64), atol=1e-12)
    used = [set(row.nonzero().flatten().tolist()) for row in dense.abs() > 1e-9]
    assert all(used[i] == used[0] for i in range(7)), "a block's rows see the same pixels"
    assert used[0].isdisjoint(used[7])
    assert len(used[0]) == 16
    assert len(used[14]) == 3, "the rest has a matrix of its own"


@FEW
@given(st.integers(2, 80), st.integers(2, 80), st.floats(0.05, 1.0), st.floats(0.01, 1.0))
def test_nested_in_the_ratio(height, width, high, share):
    op = idm.BlockCS((height, width), high)
    x = image(op)
    lower, y_low = op.restrict(op.A(x), high * share)
    assert torch.allclose(lower.A(x), y_low, rtol=0, atol=1e-13)
    rebuilt = idm.BlockCS((height, width), high * share)
    assert torch.allclose(rebuilt.A(x), y_low, rtol=0, atol=1e-13)


def test_gradient_of_half_the_squared_norm():
    op = idm.BlockCS((19, 40), 0.25)
    x = image(op).requires_grad_()
    (0.5 * op.A(x).square().sum()).backward()
    assert torch.allclose(x.grad, op.A_adjoint(op.A(x.detach())), atol=1e-12)


def test_one_permutation_for_each_sample():
    op = idm.BlockCS((24, 40), 0.3, permutation_seed=[5, 6, 7])
    x = image(op, batch=3)
    for i, seed in enumerate([5, 6, 7]):
        alone = idm.BlockCS((24, 40), 0.3, permutation_seed=seed)
        assert torch.allclose(op.A(x)[i], alone.A(x[i : i + 1])[0], atol=1e-13)
        assert torch.allclose(op.A_adjoint(op.A(x))[i], alone.A_adjoint(alone.A(x[i : i + 1]))[0], atol=1e-13)
    with pytest.raises(idm.InputError, match="3 images"):
        op.A(x[:2])


def test_replace_shares_the_matrix_and_equals_a_new_operator():
    op = idm.BlockCS((40, 40), 0.1, seed=2)
    other = op.replace(ratio=0.5, permutation_seed=9)
    new = idm.BlockCS((40, 40), 0.5, seed=2, permutation_seed=9)
    assert other._full is op._full
    assert torch.equal(other.A(image(op)), new.A(image(op)))
    assert op.ratio == 0.1
    assert op.measurements == idm.BlockCS((40, 40), 0.1).measurements


def test_the_cut_of_the_matrix_is_kept_while_ratio_and_device_are():
    op = idm.BlockCS((40, 40), 0.1, seed=2)
    x = image(op)
    y = op.A(x)
    cut = op._phi(32**2, op._q, x)
    assert op.to("cpu")._phi(32**2, op._q, x) is cut
    relative = op.replace(permutation_seed=9)
    assert relative._phi(32**2, op._q, x) is cut
    assert torch.equal(op.replace(ratio=0.2).A(x), idm.BlockCS((40, 40), 0.2, seed=2).A(x))
    relative.to("meta")
    assert op._phi(32**2, op._q, x) is cut, "where a relative goes, the operator does not"
    assert torch.equal(op.A(x), y)


@pytest.mark.parametrize("size", [(40, 40), (64, 32), (8, 8)])
def test_an_empty_batch(size):
    op = idm.BlockCS(size, 0.3)
    y = op.A(torch.zeros(0, 1, *size))
    assert y.shape == (0, op.measurements)
    assert op.A_adjoint(y).shape == (0, 1, *size)
    lower, part = op.restrict(y, 0.1)
    assert part.shape == (0, lower.measurements)


def test_rebuilt_from_a_few_saved_numbers():
    op = idm.BlockCS((37, 95), 0.3, block_size=16, seed=4, permutation_seed=[1, 2], noise_std=0.1)
    saved = json.dumps(op.config())
    assert len(saved) < 300
    rebuilt = idm.BlockCS.from_config(json.loads(saved))
    assert torch.equal(rebuilt.A(image(op)), op.A(image(op)))
    assert rebuilt.config() == op.config()
    with pytest.raises(idm.InputError, match="unknown"):
        idm.BlockCS.from_config({**op.config(), "colour": 1})


def test_golden_numbers_so_that_saved_measurements_stay_readable():
    """The first three measurements of a ramp, as this version draws them: a change would orphan saved files."""
    op = idm.BlockCS((32, 33), 0.1, seed=7)
    ramp = torch.arange(32 * 33, dtype=torch.float64).reshape(1, 1, 32, 33) / (32 * 33)
    y = op.A(ramp)[0]
    golden = torch.tensor([0.638065429097, 0.466752493822, -0.288090315732], dtype=torch.float64)
    assert torch.allclose(y[[0, 1, -1]], golden, atol=1e-10)


def test_precision_follows_the_input_but_never_below_float32():
    op = idm.BlockCS((64, 64), 0.1)
    x = image(op)
    reference = op.A(x)
    assert reference.dtype == torch.float64
    assert op.A(x.float()).dtype == torch.float32
    assert op.A(x.half()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        measured = op.A(x.float())
        assert measured.dtype == torch.float32
        assert (measured - reference).abs().max() < 1e-5, "autocast must not reach the operator"
        assert (op.A_adjoint(measured) - op.A_adjoint(reference)).abs().max() < 1e-5


def test_noise_is_seeded_and_of_the_stated_strength():
    op = idm.BlockCS((128, 128), 0.5, noise_std=0.05)
    x = image(op)
    noise = op(x, seed=1) - op.A(x)
    assert torch.equal(op(x, seed=1), op.measure(x, seed=1))
    assert not torch.equal(op(x, seed=1), op(x, seed=2))
    assert abs(float(noise.std()) / 0.05 - 1) < 0.02
    with pytest.raises(idm.InputError, match="seed"):
        op(x)


def test_meta_tensors_give_shapes_without_numbers():
    op = idm.BlockCS((256, 256), 0.1)
    op.to("meta")
    y = op.A(torch.empty(2, 1, 256, 256, device="meta"))
    assert y.shape == (2, op.measurements)
    assert op.A_adjoint(y).shape == (2, 1, 256, 256)


@pytest.mark.gpu
def test_same_numbers_on_a_gpu():
    op = idm.BlockCS((37, 95), 0.3, permutation_seed=[1, 2], noise_std=0.1)
    x = image(op)
    y = op(x, seed=3)
    back = op.A_adjoint(y)
    op.to("cuda")
    assert torch.allclose(op(x.cuda(), seed=3).cpu(), y, atol=1e-12)
    assert torch.allclose(op.A_adjoint(y.cuda()).cpu(), back, atol=1e-12)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda op: op.A(torch.rand(1, 1, 8, 9)), "(B, 1, 8, 8); got (1, 1, 8, 9)"),
        (lambda op: op.A(torch.rand(1, 3, 8, 8)), "(B, 1, 8, 8); got (1, 3, 8, 8)"),
        (lambda op: op.A(torch.rand(8, 8)), "(B, 1, 8, 8); got (8, 8)"),
        (lambda op: op.A(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), "floating point; got torch.uint8"),
        (lambda op: op.A([[1.0]]), "torch tensor; got list"),
        (lambda op: op.A(torch.full((1, 1, 8, 8), float("nan"))), "64 of its 64 values are NaN or infinite"),
        (lambda op: op.A_adjoint(torch.rand(1, 3)), "(B, 7); got (1, 3)"),
        (lambda op: op.A_adjoint(torch.full((1, 7), float("inf"))), "finite"),
        (lambda op: op.restrict(torch.rand(1, 7), 0.5), "only lower the ratio"),
        (lambda op: op.restrict(torch.rand(1, 3), 0.05), "(B, 7); got (1, 3)"),
        (lambda op: op.restrict(torch.rand(7), 0.05), "(B, 7); got (7,)"),
        (lambda _: idm.BlockCS((8, 8), 0), "ratio must lie in (0, 1]"),
        (lambda _: idm.BlockCS((8, 8), 1.01), "ratio must lie in (0, 1]"),
        (lambda _: idm.BlockCS((8, 8), float("nan")), "ratio must lie in (0, 1]"),
        (lambda _: idm.BlockCS((8, 8), "10%"), "ratio must lie in (0, 1]"),
        (lambda _: idm.BlockCS((0, 8), 0.1), "image_size must be"),
        (lambda _: idm.BlockCS(8, 0.1), "image_size must be"),
        (lambda _: idm.BlockCS((8, 8), 0.1, seed=-1), "seed must be"),
        (lambda _: idm.BlockCS((8, 8), 0.1, block_size=0), "block_size must be"),
        (lambda _: idm.BlockCS((8, 8), 0.1, permutation_seed=[]), "permutation_seed must be"),
        (lambda _: idm.BlockCS((8, 8), 0.1, noise_std=-1), "noise_std must be"),
    ],
)
def test_bad_input_gets_one_sentence(bad, words):
    op = idm.BlockCS((8, 8), 0.1)
    with pytest.raises(idm.InputError) as caught:
        bad(op)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_operator_on_another_device_is_refused():
    op = idm.BlockCS((8, 8), 0.1)
    op.to("meta")
    with pytest.raises(idm.InputError, match="operator is on meta and x on cpu"):
        op.A(torch.rand(1, 1, 8, 8))


def test_a_numbered_cpu_is_the_cpu():
    op = idm.BlockCS((8, 8), 0.5, block_size=4).to("cpu:0")
    assert op.A(torch.rand(1, 1, 8, 8)).device == op.device

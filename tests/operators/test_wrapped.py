"""Other libraries' physics: any shape of y, complex or not, with A⁺ or without."""

import pytest
import torch

import idm_lib as idm
from idm_lib.operators import dot_test, pseudo_inverse_test


class Spectrum:
    """Complex measurements of a shape of their own; A⁺ as told."""

    def __init__(self):
        self.inverted = 0

    def A(self, x):
        return torch.fft.rfft2(x, norm="ortho")[..., :3]

    def A_adjoint(self, y):
        full = torch.zeros(len(y), 1, 8, 8, dtype=y.dtype)
        full[..., :3] = y
        return torch.fft.ifft2(full, norm="ortho")  # complex: its real part is the adjoint over the reals


class WithInverse(Spectrum):
    def A_dagger(self, y):
        self.inverted += 1
        weights = torch.tensor([1.0, 2.0, 2.0], dtype=y.real.dtype)
        return self.A_adjoint(y * weights).real


@pytest.mark.parametrize("kind", [Spectrum, WithInverse])
def test_complex_measurements_become_pairs_of_reals(kind):
    physics = kind()
    op = idm.Wrapped(physics, (8, 8), tolerance=1e-10)
    assert op.measurements == 2 * 8 * 3
    assert dot_test(op, (2, 1, 8, 8)) < 1e-12
    assert pseudo_inverse_test(op, (2, 1, 8, 8)) < 1e-9
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    assert torch.equal(torch.view_as_complex(op.A(x).reshape(2, 1, 8, 3, 2)), physics.A(x))
    assert (physics.inverted > 0) == (kind is WithInverse), "its own A⁺ is used if it has one"


def test_a_physics_of_one_precision():
    class Half:
        weight = torch.full((1,), 0.5)

        def A(self, x):
            return torch.nn.functional.conv2d(x, self.weight[None, None, None])

        A_adjoint = A

    op = idm.Wrapped(Half(), (4, 4), dtype=torch.float32)
    y = op.A(torch.ones(1, 1, 4, 4, dtype=torch.float64))
    assert y.dtype == torch.float64
    assert y.tolist() == [[0.5] * 16]


class Weighted(torch.nn.Module):
    """Multiplies by a buffer of its own."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def A(self, x):
        assert x.device == self.weight.device
        return x * self.weight

    A_adjoint = A


class Bare:
    """The same, but no module."""

    def __init__(self, weight):
        self.weight = weight

    A = A_adjoint = Weighted.A


@pytest.mark.parametrize(("kind", "options"), [(Weighted, {}), (Bare, {"device": "meta"})])
def test_a_physics_on_another_device_is_wrapped_there(kind, options):
    op = idm.Wrapped(kind(torch.ones(4, 4, device="meta")), (4, 4), **options)
    assert op.device.type == "meta"
    assert op.A(torch.ones(2, 1, 4, 4, device="meta")).shape == (2, 16)
    assert idm.Wrapped(kind(torch.ones(4, 4)), (4, 4)).device.type == "cpu"


def test_what_is_no_physics_is_refused():
    class NoAdjoint:
        def A(self, x):
            return x

    class Number(NoAdjoint):
        def A_adjoint(self, y):
            return y

        def A(self, x):
            return float(x.sum())

    with pytest.raises(idm.InputError, match="a NoAdjoint has no A_adjoint"):
        idm.Wrapped(NoAdjoint(), (4, 4))
    with pytest.raises(idm.InputError, match="one row of numbers for each image; got float"):
        idm.Wrapped(Number(), (4, 4))


@pytest.mark.parametrize("name", ["Inpainting", "Downsampling", "BlurFFT"])
def test_deepinv(name):
    deepinv = pytest.importorskip("deepinv")
    generator = torch.Generator().manual_seed(0)
    if name == "Inpainting":
        physics = deepinv.physics.Inpainting(
            (1, 16, 16), mask=(torch.rand(1, 16, 16, generator=generator) < 0.5).float()
        )
    elif name == "Downsampling":
        physics = deepinv.physics.Downsampling(img_size=(1, 16, 16), factor=2, filter="bicubic")
    else:
        physics = deepinv.physics.BlurFFT(img_size=(1, 16, 16), filter=deepinv.physics.blur.gaussian_blur(0.6))
    op = idm.Wrapped(physics, (16, 16), dtype=torch.float32)
    x = torch.rand(2, 1, 16, 16, generator=generator)
    assert op.A(x).shape == (2, op.measurements)
    assert dot_test(op, (2, 1, 16, 16), dtype=torch.float32) < 1e-6
    assert pseudo_inverse_test(op, (2, 1, 16, 16)) < 1e-2

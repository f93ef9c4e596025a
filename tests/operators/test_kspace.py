"""A scanner's k-space: out of a file and back to the image it was made of."""

import numpy as np
import pytest
import torch
from made_scans import write_hdf5
from skimage.data import camera, shepp_logan_phantom
from skimage.transform import resize

import idm_lib as idm
from idm_lib.operators.mri import smooth_coils
from idm_lib.solvers import tv

SIZE = (96, 80)
UNIT = 3e-4  # of the scanner
DOWN, RIGHT = np.meshgrid(*[np.linspace(-1, 1, n) for n in SIZE], indexing="ij")
PHANTOM = resize(shepp_logan_phantom(), SIZE)
BODY = resize(camera() / 255.0, SIZE) * (DOWN**2 / 0.85 + RIGHT**2 / 0.7 < 1)
PHASE = np.exp(1j * (0.5 + DOWN + 0.7 * RIGHT * DOWN))  # smooth, as scanners' are
IMAGE = UNIT * PHANTOM * PHASE


def coils_of(count: int) -> np.ndarray:
    return smooth_coils(count, SIZE) if count > 1 else np.ones((1, *SIZE), complex)


def kspace_of(image: np.ndarray, coils: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """(coils, H, W) complex64, centred."""
    axes, rng = (-2, -1), np.random.RandomState(0)
    spectrum = np.fft.fft2(np.fft.ifftshift(coils * image, axes=axes), norm="ortho")
    spectrum = np.fft.fftshift(spectrum, axes=axes)
    return (spectrum + noise * (rng.randn(*spectrum.shape) + 1j * rng.randn(*spectrum.shape))).astype(np.complex64)


def scan(tmp_path, image=IMAGE, coils=8, mask=None, noise=0.0):
    """A file of three slices: air, the image, and air."""
    samples = kspace_of(image, coils_of(coils), noise)
    volume = np.stack([0 * samples, samples, 0 * samples])
    volume = volume[:, 0] if coils == 1 else volume
    extra = {} if mask is None else {"mask": mask}
    return write_hdf5(tmp_path / "scan.h5", kspace=volume if mask is None else volume * mask, **extra)


def error(found: np.ndarray, image=IMAGE) -> float:
    """Relative error of the magnitude."""
    return float(np.linalg.norm(np.abs(found) - np.abs(image)) / np.linalg.norm(image))


@pytest.mark.parametrize("coils", [1, 4])
def test_a_complex_image_comes_back_through_known_coils(tmp_path, coils):
    """File → measurements → A⁺: to the file's own precision, phase and all."""
    maps = coils_of(coils)
    y, op, scale = idm.load_kspace(scan(tmp_path, coils=coils), sensitivities=maps, complex_image=True)
    assert op.image_size == SIZE
    assert (op.coils, op.channels) == (coils, 2)
    x = op.A_dagger(y)
    found = torch.complex(x[0, 0], x[0, 1]).numpy() * scale
    assert np.linalg.norm(found - IMAGE) < 1e-6 * np.linalg.norm(IMAGE)
    assert op.noise_std < 2e-3, "almost everything is explained"


def test_one_coil_needs_no_sensitivities_for_a_complex_image(tmp_path):
    y, op, scale = idm.load_kspace(scan(tmp_path, coils=1), complex_image=True)
    assert op.orthonormal
    assert (op.noise_std, op.sensitivities) == (0, None)
    x = op.A_dagger(y)
    assert np.linalg.norm(torch.complex(x[0, 0], x[0, 1]).numpy() * scale - IMAGE) < 1e-6 * np.linalg.norm(IMAGE)


@pytest.mark.parametrize("coils", [1, 8])
@pytest.mark.parametrize("complex_image", [False, True])
def test_the_magnitude_comes_back_through_estimated_coils(tmp_path, coils, complex_image):
    """What is estimated from the centre is not exact; of fully sampled k-space it costs less than a part in 1000."""
    y, op, scale = idm.load_kspace(scan(tmp_path, coils=coils), complex_image=complex_image)
    x = op.A_dagger(y)[0].numpy()
    assert error((x[0] if not complex_image else x[0] + 1j * x[1]) * scale) < 1e-3
    assert np.percentile(np.hypot(x[0], x[-1]) if complex_image else x[0], 99.8) < 1.01, "the image fills [0, 1]"
    if not complex_image:
        assert x.min() > -0.01, "real and not negative"


def test_y_is_the_files_k_space(tmp_path):
    mask = np.zeros(SIZE[1], np.float32)
    mask[34:47], mask[::4] = 1, 1
    path = scan(tmp_path, coils=2, mask=mask)
    y, op, scale = idm.load_kspace(f"{path}#1")
    samples = kspace_of(IMAGE, coils_of(2))[:, np.broadcast_to(mask > 0, SIZE)]
    assert torch.equal(
        y, torch.view_as_real(torch.from_numpy(samples.astype(complex) / scale)).reshape(1, -1).float()
    )
    assert (op.mask == (mask > 0)).all()
    assert op.true_ratio == mask.mean()


def test_some_columns_of_what_was_sampled_whole(tmp_path):
    path = scan(tmp_path)
    whole, part = idm.load_kspace(path), idm.load_kspace(path, ratio=0.25, seed=3)
    again = idm.MRI(SIZE, 0.25, seed=3)
    assert torch.equal(part.operator._tables["sampled"], again._tables["sampled"])
    kept = torch.from_numpy(part.operator.mask[np.ones(SIZE, bool)]).repeat_interleave(2).repeat(8)
    assert torch.allclose(part.y[0] * part.scale, whole.y[0, kept] * whole.scale, rtol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("coils", [1, 8])
def test_undersampled_and_noisy_it_is_recovered_and_total_variation_helps(tmp_path, coils, noise):
    """The estimated noise level keeps A⁺ from blowing up what does not fit."""
    image = UNIT * BODY * PHASE
    y, op, scale = idm.load_kspace(scan(tmp_path, image, coils, noise=noise * UNIT), ratio=0.4)
    plain = error(op.A_dagger(y)[0, 0].numpy() * scale, image)
    smooth = error(tv(y, op, iterations=30).image[0, 0].numpy() * scale, image)
    assert smooth < 0.8 * plain < 0.25
    y, careless, _ = idm.load_kspace(tmp_path / "scan.h5", ratio=0.4, noise_std=0)
    assert careless.noise_std == 0
    assert error(tv(y, careless, iterations=30).image[0, 0].numpy() * scale, image) > 1.5 * smooth


@pytest.mark.parametrize("coils", [4, 8])
@pytest.mark.parametrize("ratio", [None, 0.4])
def test_the_noise_is_estimated(tmp_path, coils, ratio):
    """Where there is more noise than the coils' sensitivities are wrong, with a margin of a fifth."""
    path = scan(tmp_path, coils=coils, noise=0.05 * UNIT)
    _, op, scale = idm.load_kspace(path, ratio=ratio)
    assert op.noise_std == pytest.approx(1.2 * 0.05 * UNIT / scale, rel=0.15)


def test_it_is_saved_as_any_measurements_are(tmp_path):
    y, op, _ = idm.load_kspace(scan(tmp_path), ratio=0.5)
    idm.save_measurements(tmp_path / "y.npz", y, op)
    again = idm.load_measurements(tmp_path / "y.npz")
    assert torch.equal(again.y, y)
    assert again.operator.config() == op.config()
    assert op.noise_std > 0
    for name, array in op.arrays().items():
        assert (again.operator.arrays()[name] == array).all()
    assert torch.allclose(again.operator.A_dagger(y), op.A_dagger(y), atol=1e-6)


def test_what_cannot_be_used_is_one_sentence(tmp_path):
    path = scan(tmp_path, coils=2)
    for options, words in (
        ({"index": 0}, "no signal in this slice"),
        ({"index": 3}, "no slice 3; expected 0 to 2"),
        ({"ratio": 1.5}, "ratio must lie in"),
        ({"ratio": 0.5, "seed": -1}, "seed must"),
        ({"sensitivities": np.ones((3, *SIZE))}, r"shape of the slice's k-space, \(2, 96, 80\)"),
        ({"sensitivities": np.ones((2, *SIZE), int)}, "got .*int64"),
        ({"sensitivities": np.full((2, *SIZE), np.nan), "complex_image": True, "noise_std": 0}, "must be finite"),
        ({"noise_std": -1}, "noise_std must be"),
    ):
        with pytest.raises(idm.InputError, match=words):
            idm.load_kspace(path, **options)
    mask = np.zeros(SIZE[1])
    mask[::2] = 1
    gaps = scan(tmp_path, coils=2, mask=mask)
    with pytest.raises(idm.InputError, match=r"scan\.h5 has 1 columns without gaps in the middle .* at least 4"):
        idm.load_kspace(gaps)
    with pytest.raises(idm.InputError, match="undersampled already, to 50% of k-space; leave out ratio"):
        idm.load_kspace(gaps, ratio=0.5)
    y, op, _ = idm.load_kspace(gaps, sensitivities=coils_of(2), complex_image=True, noise_std=0.01)
    assert op.A_dagger(y).shape == (1, 2, *SIZE)
    with pytest.raises(idm.InputError, match="has reconstruction_rss in it"):
        idm.load_kspace(write_hdf5(tmp_path / "image.h5", reconstruction_rss=np.ones((2, 4, 4))))

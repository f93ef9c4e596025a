"""Reading and writing images: every kind that a reader may have, and every kind of broken file, by name."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

import idm_lib as idm
from idm_lib.images import image_files, load_image, luminance, read_pixels, save_image, to_tensor

GREY = (np.arange(7 * 9).reshape(7, 9) * 4).astype(np.uint8)
RGB = np.random.RandomState(0).randint(0, 256, (7, 9, 3)).astype(np.uint8)


def written(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("colour", "luma"),
    [
        # (4899 R + 9617 G + 1868 B + 8192) >> 14, worked out by hand
        ((0, 0, 0), 0),
        ((255, 255, 255), 255),
        ((255, 0, 0), 76),  # 1249245 + 8192 = 1257437; / 16384 = 76.7
        ((0, 255, 0), 150),  # 2452335 + 8192 = 2460527; / 16384 = 150.2
        ((0, 0, 255), 29),  # 476340 + 8192 = 484532; / 16384 = 29.6
        ((1, 2, 3), 2),  # 29737 + 8192 = 37929; / 16384 = 2.3
        ((200, 100, 50), 124),  # 2034900 + 8192 = 2043092; / 16384 = 124.7
    ],
)
def test_luminance_is_opencv_fixed_point(colour, luma):
    assert luminance(np.array([[colour]], dtype=np.uint8)).item() == luma


def test_luminance_keeps_grey_and_16_bits():
    assert luminance(GREY) is GREY
    grey = np.full((2, 2, 3), 65535, dtype=np.uint16)
    assert luminance(grey).dtype == np.uint16
    assert (luminance(grey) == 65535).all()


def test_eight_bit_files_are_read_as_stored(tmp_path):
    assert np.array_equal(read_pixels(written(tmp_path, Image.fromarray(GREY))), GREY)
    assert np.array_equal(read_pixels(written(tmp_path, Image.fromarray(RGB))), RGB)
    palette = Image.fromarray(RGB).quantize(8)
    assert np.array_equal(read_pixels(written(tmp_path, palette)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    deep = (GREY.astype(np.uint16) * 257) + 1
    path = written(tmp_path, Image.fromarray(deep), f"a{suffix}")
    assert np.array_equal(read_pixels(path), deep)
    assert load_image(path).max() == np.float32(deep.max()) / np.float32(65535)


def test_transparency_is_laid_on_white_and_grey_stays_grey(tmp_path):
    alpha = np.full((7, 9, 1), 255, np.uint8)
    alpha[0] = 0
    pixels = read_pixels(written(tmp_path, Image.fromarray(np.concatenate([RGB, alpha], 2), "RGBA")))
    assert (pixels[0] == 255).all()
    assert np.array_equal(pixels[1:], RGB[1:])
    pixels = read_pixels(written(tmp_path, Image.fromarray(np.stack([GREY, alpha[..., 0]], 2), "LA")))
    assert pixels.shape == (7, 9)
    assert (pixels[0] == 255).all()
    assert np.array_equal(pixels[1:], GREY[1:])


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("pixels", [GREY, GREY.astype(np.uint16) * 257, RGB], ids=["grey", "16 bit", "RGB"])
def test_exif_orientation_is_applied(tmp_path, orientation, turn, pixels):
    exif = Image.Exif()
    exif[274] = orientation
    path = written(tmp_path, Image.fromarray(pixels), exif=exif)
    assert np.array_equal(read_pixels(path), np.rot90(pixels, turn))


def test_one_bit_float_cmyk_and_animation(tmp_path):
    bits = GREY > 100
    assert np.array_equal(read_pixels(written(tmp_path, Image.fromarray(bits))), bits * np.uint8(255))
    floats = np.array([[0.0, 0.5, 1.0, 2.0, -1.0, np.nan]], np.float32)
    assert read_pixels(written(tmp_path, Image.fromarray(floats), "a.tif")).tolist() == [[0, 128, 255, 255, 0, 0]]
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert read_pixels(written(tmp_path, cmyk, "b.tif")).shape == (7, 9, 3)
    frames = [Image.new("L", (4, 3), shade) for shade in (10, 200)]
    path = written(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert (read_pixels(path) == 10).all()


def test_broken_files_are_named_with_what_is_wrong(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:2000])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    words = {"cut.png": "broken", "text.png": "not an image", "empty.png": "not an image", "no.png": "does not exist"}
    for name, word in words.items():
        with pytest.raises(idm.InputError, match=rf"{name} .*{word}"):
            read_pixels(tmp_path / name)
    with pytest.raises(idm.InputError, match="is a folder"):
        read_pixels(tmp_path)
    with pytest.raises(idm.InputError):
        read_pixels("x" * 5000)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"])
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path, kind):
    whole, rng = io.BytesIO(), np.random.RandomState(0)
    Image.fromarray(RGB).save(whole, kind)
    path = tmp_path / f"a.{kind.lower()}"
    for _ in range(40):
        data = bytearray(whole.getvalue())
        for _ in range(rng.randint(1, 6)):
            data[rng.randint(min(len(data), 120))] = rng.randint(256)
        path.write_bytes(data)
        with contextlib.suppress(idm.InputError):
            assert read_pixels(path).dtype in (np.uint8, np.uint16)


def test_saved_is_loaded(tmp_path):
    for pixels in (GREY, RGB):
        save_image(tmp_path / "a.png", to_tensor(pixels))
        assert np.array_equal(read_pixels(tmp_path / "a.png"), pixels)
        assert torch.equal(load_image(tmp_path / "a.png", colour=True), to_tensor(pixels))
    assert load_image(tmp_path / "a.png").shape == (1, 1, 7, 9)
    save_image(tmp_path / "b.png", torch.tensor([[[[-1.0, 2.0]]]]))
    assert read_pixels(tmp_path / "b.png").tolist() == [[0, 255]]


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(idm.InputError, match=r"got \(2, 1, 4, 4\)"):
        save_image(tmp_path / "a.png", torch.zeros(2, 1, 4, 4))
    with pytest.raises(idm.InputError, match="NaN"):
        save_image(tmp_path / "a.png", torch.full((1, 1, 2, 2), torch.nan))
    with pytest.raises(idm.InputError, match="names no image format"):
        save_image(tmp_path / "a.xyz", torch.zeros(1, 1, 4, 4))


def test_a_folder_lists_its_images_by_name(tmp_path):
    with pytest.raises(idm.InputError, match="holds no image"):
        image_files(tmp_path)
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == ["a.jpg", "b.PNG"]
    with pytest.raises(idm.InputError, match="not a folder"):
        image_files(tmp_path / "a.jpg")

"""Photos of every kind and a prior that nobody trained."""

import numpy as np
import pytest
import torch
from PIL import Image

import idm_lib as idm


@pytest.fixture(scope="session")
def prior(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "prior"
    model = idm.Denoiser(block_channels=(8, 16), layers_per_block=1, norm_groups=4, noise_channels=8)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "model"
    small = {"block_channels": (8, 16), "attention": (False, False), "injectors": (True, False)}
    idm.InvertibleDiffusion.named("tiny", steps=2, norm_groups=4, noise_channels=8, **small).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Folder with usable images good-*.png and two that are not: cut.png and text.png."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.RandomState(0)

    def save(name, shape, kind=np.uint8):
        Image.fromarray(rng.randint(0, np.iinfo(kind).max, shape).astype(kind)).save(folder / name)

    save("good-1x1.png", (1, 1))
    save("good-7x9.png", (7, 9))
    save("good-31x200.png", (31, 200))
    save("good-rgb.png", (12, 10, 3))
    save("good-rgba.png", (12, 10, 4))
    save("good-16bit.png", (9, 9), np.uint16)
    save("cut.png", (40, 40, 3))
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:800])
    (folder / "text.png").write_text("a list of things to buy")
    return folder

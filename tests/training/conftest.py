"""A training run of a second."""

import numpy as np
import pytest
from PIL import Image

from idm_lib.training import TrainConfig

YAML = """
task: prior
name: atom
steps: 8
checkpoint_every: 2
validate_every: 4
log_every: 1
data: {folder: FOLDER, validation: 2, crop: 16, batch: 2}
optimiser: {warmup: 2, ema: 0.5}
model: {block_channels: [8], layers_per_block: 1, norm_groups: 4, noise_channels: 8, steps: 10}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Six images, each of one shade of its own: 20, 40 … 120."""
    path = tmp_path_factory.mktemp("images")
    for i in range(6):
        Image.fromarray(np.full((20, 24), 20 * (i + 1), np.uint8)).save(path / f"{i}.png")
    return path


@pytest.fixture(scope="session")
def recipe(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "atom.yaml"
    path.write_text(YAML.replace("FOLDER", str(folder)))
    return path


@pytest.fixture
def config(recipe):
    return TrainConfig.load(recipe)

"""Training crops that depend only on the seed and the step, so that a resumed run sees what it would have seen."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from idm_lib.errors import InputError
from idm_lib.images import luminance, read_pixels
from idm_lib.training.config import TrainConfig
from idm_lib.training.dead_leaves import dead_leaves
from idm_lib.training.named_data import image_paths, is_synthetic
from idm_lib.training.phantoms import phantom

SYNTHETIC_IMAGES = 160
HELD_OUT = 2**31  # where the seeds of held-out phantoms begin: no training step has such a number


class CropSource:
    """Random crops, flipped and rotated, of the luminance of images.

    Args:
        folder: of images, or a name of :mod:`idm_lib.training.named_data`; an image that cannot be read or is smaller
            than a crop is named in ``skipped``.
        crop: side of a crop, pixels.
        validation: how many images, evenly spread over the sorted names, are held out.
        seed: of every batch.
        phantoms: share of the crops that are phantoms; of the held-out crops, too, at their end.
    """

    def __init__(self, folder: str | Path, crop: int, validation: int, seed: int, phantoms: float = 0.0) -> None:
        self.crop, self.seed, self.phantoms = crop, seed, phantoms
        self.skipped: list[str] = []
        images = self._synthetic() if is_synthetic(folder) else self._read(image_paths(folder))
        if len(images) <= validation:
            raise InputError(
                f"{folder} has {len(images)} usable images; expected more than the {validation} held out to validate."
            )
        held = set(np.linspace(0, len(images) - 1, validation).round().astype(int).tolist()) if validation else set()
        self.validation = [image for i, image in enumerate(images) if i in held]
        self.training = [image for i, image in enumerate(images) if i not in held]

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The crops of a run."""
        data = config.data
        return cls(data.folder, data.crop, data.validation, config.seed, data.phantoms)

    def _synthetic(self) -> list[np.ndarray]:
        """Images of dead leaves that depend on the seed alone, (256, 256) or as large as a crop."""
        side = max(256, self.crop)
        numbers = tqdm(range(SYNTHETIC_IMAGES), desc="making images", unit="image", leave=False, disable=None)
        return [dead_leaves(side, np.random.RandomState([self.seed, i])) for i in numbers]

    def _read(self, paths: list[Path]) -> list[np.ndarray]:
        images = []
        for path in tqdm(paths, desc="reading images", unit="image", leave=False, disable=None):
            try:
                pixels = luminance(read_pixels(path))
            except InputError as error:
                self.skipped.append(str(error))
                continue
            if min(pixels.shape) < self.crop:
                self.skipped.append(f"{path} is smaller than a crop of {self.crop} × {self.crop} pixels.")
                continue
            scale = np.iinfo(pixels.dtype).max / 255
            images.append((pixels / scale).round().astype(np.uint8))  # a byte a pixel: a folder fits in memory
        return images

    def batch(self, step: int, size: int) -> Tensor:
        """The crops of one step, (size, 1, crop, crop) in [0, 1]."""
        rng = np.random.RandomState([self.seed, step])
        crops = np.stack([self._crop(rng) for _ in range(size)])  # (size, crop, crop)
        return torch.from_numpy(crops).float()[:, None] / 255

    def validation_crops(self, side: int) -> Tensor:
        """The middle of every held-out image, (images, 1, side, side) in [0, 1]."""
        crops = []
        for image in self.validation:
            top, left = ((length - side) // 2 for length in image.shape)
            crops.append(image[top : top + side, left : left + side])
        made = round(self.phantoms * len(crops))
        for i in range(made):
            crops[len(crops) - made + i] = phantom(side, np.random.RandomState([self.seed, HELD_OUT + i]))
        return torch.from_numpy(np.stack(crops)).float()[:, None] / 255

    def _crop(self, rng: np.random.RandomState) -> np.ndarray:
        if self.phantoms and rng.rand() < self.phantoms:
            return phantom(self.crop, rng)
        image = self.training[rng.randint(len(self.training))]
        top, left = (rng.randint(length - self.crop + 1) for length in image.shape)
        crop = image[top : top + self.crop, left : left + self.crop]
        crop = np.rot90(crop, rng.randint(4))
        return np.ascontiguousarray(crop[:, ::-1] if rng.randint(2) else crop)

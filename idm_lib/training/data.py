"""Training crops that depend only on the seed and the step, so that a resumed run sees what it would have seen."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from idm_lib.errors import InputError
from idm_lib.images import luminance, read_pixels
from idm_lib.medical import find_scans, nearly_empty
from idm_lib.training.config import TrainConfig
from idm_lib.training.dead_leaves import dead_leaves
from idm_lib.training.named_data import image_paths, is_synthetic
from idm_lib.training.phantoms import phantom

SYNTHETIC_IMAGES = 160
HELD_OUT = 2**31  # where the seeds of held-out phantoms begin: no training step has such a number


class CropSource:
    """Random crops, flipped and rotated, of the luminance of images, or of the slices of medical scans.

    Scans are looked for in the folders below too; see :func:`idm_lib.medical.find_scans`. Every slice is an image,
    but for the nearly empty (:func:`idm_lib.medical.nearly_empty`). A slice is like its neighbours, so scans are held
    out by patient: all of a patient's slices are in training, or none is, and the middle one is validated with.

    Args:
        folder: of images or scans, or a name of :mod:`idm_lib.training.named_data`; what cannot be read or is smaller
            than a crop is named in ``skipped``.
        crop: side of a crop, pixels.
        validation: how many images, or patients, evenly spread over the sorted names, are held out.
        seed: of every batch.
        phantoms: share of the crops that are phantoms; of the held-out crops, too, at their end.
    """

    def __init__(self, folder: str | Path, crop: int, validation: int, seed: int, phantoms: float = 0.0) -> None:
        self.crop, self.seed, self.phantoms = crop, seed, phantoms
        self.skipped: list[str] = []
        patients: list[list[np.ndarray]] = []
        if is_synthetic(folder):
            images = self._synthetic()
        else:
            if Path(folder).is_dir():
                patients = self._read_scans(folder)
            images = self._read(image_paths(folder, needed=not (patients or self.skipped)))
        groups = [*([image] for image in images), *patients]  # what is held out together
        if len(groups) <= validation:
            raise InputError(_too_few(folder, validation, len(images), len(patients), self.skipped))
        held = set(np.linspace(0, len(groups) - 1, validation).round().astype(int).tolist()) if validation else set()
        self.validation = [group[len(group) // 2] for i, group in enumerate(groups) if i in held]
        self.training = [image for i, group in enumerate(groups) if i not in held for image in group]

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
            images.append(_bytes(pixels))
        return images

    def _read_scans(self, folder: str | Path) -> list[list[np.ndarray]]:
        """The usable slices of each patient that has any."""
        scans, broken = find_scans(folder)
        self.skipped += broken
        patients: dict[str, list[np.ndarray]] = {}
        for scan in tqdm(scans, desc="reading scans", unit="scan", leave=False, disable=None):
            slices, broken = scan.read()
            self.skipped += broken
            shown = [s.pixels for s in slices if not nearly_empty(s.pixels)]
            usable = [_bytes(pixels) for pixels in shown if min(pixels.shape) >= self.crop]
            if len(usable) < len(shown):
                self.skipped.append(
                    f"{scan.files[0]} and its series are smaller than a crop of {self.crop} × {self.crop} pixels."
                )
            if slices and not shown:
                self.skipped.append(f"{scan.files[0]} and its series are nearly empty.")
            if usable:
                patients.setdefault(scan.patient, []).extend(usable)
        return list(patients.values())

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


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """Grey pixels (H, W) as uint8: a byte a pixel, so that a folder fits in memory."""
    return (pixels / (np.iinfo(pixels.dtype).max / 255)).round().astype(np.uint8)


def _too_few(folder: str | Path, validation: int, images: int, patients: int, skipped: list[str]) -> str:
    """Why no run can begin on so few images and patients."""
    found = f"{images} usable images" if images or not patients else ""
    if patients:
        found = " and ".join(part for part in (found, f"usable scans of {patients} patients") if part)
    why = f" ({skipped[0].rstrip('.')})" if skipped and not images + patients else ""
    if patients:
        why += "; where scans do not say whose they are, those below one subfolder count as one patient's"
    return f"{folder} has {found}; expected more than the {validation} held out to validate{why}."

"""Compressed sensing as a diffusers pipeline: image or measurements in, image out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Self

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.evaluation.withheld import PredictedQuality
from idm_lib.models import InvertibleDiffusion
from idm_lib.models.storage import check_folder, resolve
from idm_lib.operators import BlockCS
from idm_lib.operators.block_cs import check_ratio
from idm_lib.pipelines.batches import Task, tasks_of_images, tasks_of_measurements
from idm_lib.pipelines.pixels import OUTPUT_TYPES, delivered, planes_of, stacked
from idm_lib.pipelines.run import batches, reconstruct_batch


@dataclass
class CompressedSensingOutput(BaseOutput):
    """What the pipeline gives.

    Args:
        images: reconstructions in [0, 1]: a list of PIL images, or an array (B, H, W, C), or a tensor (B, C, H, W);
            a list of arrays or tensors where sizes differ.
        measurements: y, (B, C, M), or a list of (C, M) where sizes differ.
        operators: that measured each image; ``pipe(y=output.measurements[:1], operator=output.operators[0])``.
        predicted: each image's quality as held-back measurements tell it, if asked for.
    """

    images: list[Image.Image] | np.ndarray | Tensor | list[Any]
    measurements: Tensor | list[Tensor]
    operators: list[Any]
    predicted: list[PredictedQuality] | None = None


class CompressedSensingPipeline(DiffusionPipeline):
    """Measure images with a fraction of their numbers, or take measurements as they are, and reconstruct.

    Args:
        model: what reconstructs.
        ratio: γ where a call names none.
        block_size, seed: of the operator (:class:`~idm_lib.BlockCS`); by default what the model was trained on.
    """

    model_cpu_offload_seq = "model"

    def __init__(
        self,
        model: InvertibleDiffusion,
        ratio: float = 0.1,
        # Before 0.37 diffusers understands no `int | None`, and from_pretrained ends in a KeyError.
        block_size: Optional[int] = None,  # noqa: UP045
        seed: Optional[int] = None,  # noqa: UP045
    ) -> None:
        super().__init__()
        record = {"block_size": 32, "seed": 0} | (model.config.operator or {})
        block_size = record["block_size"] if block_size is None else block_size
        seed = record["seed"] if seed is None else seed
        BlockCS((1, 1), ratio, block_size, seed)  # refuses what no operator could be built from
        self.register_modules(model=model)
        self.register_to_config(ratio=ratio, block_size=block_size, seed=seed)

    def operator(self, image_size: tuple[int, int], ratio: float | None = None) -> BlockCS:
        """The operator for images of a size, (H, W)."""
        return BlockCS(
            image_size, self.config.ratio if ratio is None else ratio, self.config.block_size, self.config.seed
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Any = None,
        *,
        y: Tensor | None = None,
        operator: Any = None,
        image_size: tuple[int, int] | None = None,
        ratio: float | None = None,
        colour: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
        seed: int | Sequence[int] | None = None,
        hold: float = 0.0,
        batch_size: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> CompressedSensingOutput | tuple[Any, ...]:
        """Reconstruct images from their measurements, taken here or given.

        Args:
            image: to be measured: one or a list of paths, PIL images, arrays or tensors (see
                :func:`~idm_lib.pipelines.pixels.planes_of`), of any sizes.
            y: measurements instead, (B, M), or (B, C, M) for C channels.
            operator: that measures, or has measured; by default :meth:`operator` of the image's size.
            image_size: (H, W), for y without an operator.
            ratio: γ in (0, 1]; by default the pipeline's.
            colour: measure colour images channel by channel; otherwise their luminance.
            generator: draws each image's permutation; one generator, or one for each image.
            seed: of the permutation instead, one number for all images or one for each; by default the pipeline's.
            hold: fraction of the measurements held back to predict the quality, 0 for none.
            batch_size: how many images at most go through the model at once; by default all of one size.
            output_type: ``pil``, ``np`` or ``pt``.
            return_dict: give a :class:`CompressedSensingOutput`, or a tuple of its fields.

        Raises:
            InputError: neither or both of image and y, or anything that does not fit.
        """
        if (image is None) == (y is None):
            raise InputError("give an image to measure or measurements y, and not both.")
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}; got {output_type!r}.")
        if operator is not None and not all(hasattr(operator, name) for name in ("A", "A_adjoint", "A_dagger")):
            raise InputError(f"operator must have A, A_adjoint and A_dagger; got a {type(operator).__name__}.")
        if operator is not None and (ratio, image_size, seed, generator) != (None,) * 4:
            raise InputError("the operator fixes ratio, image_size and permutation; leave them out, or the operator.")
        if ratio is not None:
            check_ratio(ratio)
        if image is not None and image_size is not None:
            raise InputError("image_size goes with measurements y; an image has its own size.")
        if isinstance(hold, bool) or not isinstance(hold, int | float) or not 0 <= hold < 1:
            raise InputError(f"hold must lie in [0, 1), as 0.01 for one in a hundred; got {hold!r}.")
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise InputError(f"batch_size must be a whole number of at least 1; got {batch_size!r}.")
        device, dtype = self._execution_device, self.model.dtype
        precise = torch.float64 if dtype == torch.float64 else torch.float32  # measured no coarser than this
        draw = (generator, self.config.seed if seed is None and generator is None else seed)
        if image is not None:
            planes = [each.to(device, precise) for each in planes_of(image, colour)]
            tasks = tasks_of_images(planes, operator, lambda size: self.operator(size, ratio), *draw)
        else:
            build = None if image_size is None else lambda: self.operator(image_size, ratio)
            given = y.to(device) if isinstance(y, Tensor) else y
            tasks = tasks_of_measurements(given, operator, build, *draw)
        images, predicted = self._reconstruct(tasks, hold, batch_size)
        self.maybe_free_model_hooks()
        result = CompressedSensingOutput(
            images=delivered(images, output_type),
            measurements=stacked([task.y for task in tasks]),
            operators=[task.op for task in tasks],
            predicted=predicted,
        )
        return result if return_dict else (result.images, result.measurements, result.operators, result.predicted)

    def _reconstruct(
        self, tasks: list[Task], hold: float, batch_size: int | None
    ) -> tuple[list[Tensor], list[PredictedQuality] | None]:
        images: list[Tensor] = []
        predicted: list[PredictedQuality] = []
        with self.progress_bar(total=len(tasks)) as bar:
            for batch in batches(tasks, batch_size):
                more, qualities = reconstruct_batch(self.model, batch, hold, self.config.seed)
                images += more
                predicted += qualities
                bar.update(len(batch))
        return images, predicted if hold else None

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load a pipeline, or put a model into one: a shipped name, a local folder, or a pipeline's hub id.

        Args:
            name: as above; a folder of ``CompressedSensingPipeline.save_pretrained`` or of
                ``InvertibleDiffusion.save_pretrained``.
            kwargs: the pipeline's own numbers, and diffusers' (``torch_dtype``, ``variant``, …).

        Raises:
            InputError: nothing of that name, or files that are missing, broken or of another pipeline.
        """
        where = resolve(name)
        folder = Path(where)
        if (folder / "config.json").is_file() and not (folder / "model_index.json").is_file():
            own = {key: kwargs.pop(key) for key in ("ratio", "block_size", "seed") if key in kwargs}
            return cls(InvertibleDiffusion.from_pretrained(where, **kwargs), **own)
        if folder.is_dir():
            _check_pipeline(folder, cls.__name__, kwargs.get("variant"))
        try:
            return super().from_pretrained(where, **kwargs | {"use_safetensors": True})
        except InputError:
            raise
        except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{where} could not be loaded as a {cls.__name__}: {first.rstrip('.')}.") from None


def _check_pipeline(folder: Path, kind: str, variant: str | None) -> None:
    """Refuse a folder of another pipeline, or one that names code outside this library."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise InputError(f"{folder} has no model_index.json; expected a folder that {kind}.save_pretrained wrote.")
    try:
        entries = json.loads(index.read_text())
        found, (library, model) = entries["_class_name"], entries["model"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise InputError(f"{index} is not the index of a {kind}; write the folder anew.") from None
    if found != kind:
        raise InputError(f"{folder} holds a {found}, not a {kind}; load it with {found}.from_pretrained.")
    if model != InvertibleDiffusion.__name__ or str(library).split(".")[0] != "idm_lib":
        raise InputError(f"{index} names {library}.{model} as its model; expected an InvertibleDiffusion of idm_lib.")
    if not (folder / "model").is_dir():
        raise InputError(f"{folder} has no folder model/; get a whole copy of it.")
    check_folder(folder / "model", InvertibleDiffusion.__name__, variant)

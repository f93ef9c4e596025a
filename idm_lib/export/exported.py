"""A model as ONNX files, and everything else that a program without PyTorch needs to run it."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from idm_lib.diffusion.wavelet_start import ITERATIONS
from idm_lib.errors import InputError
from idm_lib.export.choices import choices, deviations
from idm_lib.export.convert import to_onnx
from idm_lib.export.operator import MOST, operator_arrays
from idm_lib.export.step import start_program, step_program
from idm_lib.models import InvertibleDiffusion


@dataclass(frozen=True)
class Exported:
    """Two graphs, called in loops, so that one small file serves every step, and whoever calls it sees each step.

    A reconstruction: x = a grey image of ``settings["image_mean"]``; ``settings["iterations"]`` times
    x = start(x, y, mask, phi, order, inverse); x1 = x, x2 = ``settings["double"]``·x; then for step = T − 1 … 0
    x1, x2, image = step(x1, x2, step, y, mask, phi, order, inverse). The last ``image`` is the result, and each
    earlier one what it would be if the chain ended there.

    Args:
        start, step: ONNX files, opset 18. y and mask are (1, blocks·Q): each block's measurements by the first Q
            columns of Φ, zero where the mask is. All sizes are fixed but the ratio, which the mask tells.
        arrays: ``phi`` (N, Q) float32, ``order`` and ``inverse`` (H·W,) int32, which the graphs take (see
            :class:`~idm_lib.export.operator.MaskedBlocks`); ``held`` (…,) int32, which measurements to hold back.
        settings: ``image_size``, ``block_size``, ``columns`` (Q), ``steps`` (T), ``iterations``, ``double``,
            ``image_mean``; ``choices`` of ratios, 1 to 50 %, and ``deviations``: see
            :mod:`idm_lib.export.choices`.
    """

    start: bytes
    step: bytes
    arrays: dict[str, Tensor]
    settings: dict[str, Any]


def export(model: InvertibleDiffusion, image_size: tuple[int, int] = (256, 256)) -> Exported:
    """Export a model that reconstructs images of one size at any ratio up to 50 %.

    Args:
        model: with wired steps, state-evolution schedule and wavelet start, as ``tiny``; it is left as it is.
        image_size: (H, W), a whole number of the operator's blocks.

    Raises:
        InputError: a model of another kind or of ratios above 50 % alone, or a size that does not fit.
    """
    percents = percents_within(*model.config.ratios)
    record = {"block_size": 32, "seed": 0} | (model.config.operator or {})
    arrays = operator_arrays(image_size, record["block_size"], record["seed"])
    start = to_onnx(start_program(model, arrays, image_size), "start")
    step = to_onnx(step_program(model, arrays, image_size), "step")
    found, held = choices(image_size, record["block_size"], [each / 100 for each in percents])
    settings = {
        "image_size": list(image_size),
        "block_size": record["block_size"],
        "columns": arrays["phi"].shape[1],
        "steps": model.config.steps,
        "iterations": ITERATIONS,
        "double": 1.0 if model.chain.s is None else float(model.chain.s.detach()),
        "image_mean": float(model.config.image_mean),
        "choices": found,
        "deviations": deviations(),
    }
    return Exported(start, step, arrays | {"held": held}, settings)


def percents_within(low: float, high: float) -> range:
    """The ratios that can be chosen, in whole percents: those from ``low`` to ``high``, up to the operator's most.

    Raises:
        InputError: there is none.
    """
    dust = 1e-9  # 100 · 0.07 is a little more than 7
    first, last = math.ceil(100 * low - dust), math.floor(100 * min(high, MOST) + dust)
    if last < max(1, first):
        raise InputError(f"a model can be exported for 1 % to {100 * MOST:.0f} %; this one has {low:g} to {high:g}.")
    return range(max(1, first), last + 1)

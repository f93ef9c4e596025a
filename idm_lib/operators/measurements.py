"""Measurements in a file, with the operator that took them, so that they can be recovered later.

A ``.npz`` file, numpy's, without pickles:

=================  ==================================================================================
``y``              (B, M), float32 or float64: one row for each image, or for each channel of one
``operator``       its ``config()`` as JSON text; may be left out
``operator.NAME``  its ``arrays()``, as ``operator.mask``; where it has any
``format``         "idm-measurements 1"; may be left out
=================  ==================================================================================

So ``numpy.savez("mine.npz", y=y, operator=json.dumps({...}))`` writes one without this library.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import LinearOperator, check_measurements
from idm_lib.operators.configuration import operator_from_config

FORMAT = "idm-measurements 1"
_PREFIX = "operator."
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError)


class Measurements(NamedTuple):
    """What a file holds: y, (B, M), and the operator that took it, or None if the file does not say."""

    y: Tensor
    operator: LinearOperator | None


def save_measurements(path: str | Path, y: Tensor, op: LinearOperator) -> None:
    """Write measurements and their operator.

    Args:
        path: of the file, ending in ``.npz``.
        y: (B, M), float32 or float64.
        op: that took them.

    Raises:
        InputError: another suffix, a place that cannot be written to, an operator that cannot be saved, or y that it
            did not take.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"measurements are saved as .npz; got {path}; end its name in .npz.")
    y = check_measurements(y.detach())
    numbers = y.to("cpu", torch.float64 if y.dtype == torch.float64 else torch.float32).numpy()
    arrays = {_PREFIX + name: array for name, array in op.arrays().items()}
    text = json.dumps(op.config())
    _check_pair(y, op, path)
    try:
        with path.open("wb") as file:
            np.savez(file, format=np.array(FORMAT), y=numbers, operator=np.array(text), **arrays)
    except OSError as error:
        raise InputError(f"{path} could not be written ({error.strerror or error}); give another path.") from None


def load_measurements(path: str | Path) -> Measurements:
    """Read what :func:`save_measurements` wrote, or a file of the same layout.

    Raises:
        InputError: missing, broken, or another kind of file; or y and operator that do not belong together.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:  # given a path, numpy leaves a broken file open
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(f"{path} is a single array; expected an .npz with y and operator.")
            arrays = {name: file[name] for name in file.files if name in ("y", "operator", "format")}
            arrays |= {name: file[name] for name in file.files if name.startswith(_PREFIX)}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the path of an .npz of measurements.") from None
    except _BROKEN:
        raise InputError(f"{path} is no whole .npz without pickles; write it with save_measurements.") from None
    if arrays.get("format", np.array(FORMAT)).tolist() != FORMAT:
        raise InputError(f"{path} has the format {arrays['format'].tolist()!r}; expected {FORMAT!r}.")
    y = arrays.get("y")
    if y is None or y.ndim != 2 or y.dtype.kind != "f" or y.dtype.itemsize not in (4, 8) or not np.isfinite(y).all():
        got = "no y" if y is None else f"y of shape {y.shape}, {y.dtype}"
        raise InputError(f"{path} must hold y, (B, M), finite, float32 or float64; got {got}.")
    y = torch.from_numpy(y.astype(y.dtype.newbyteorder("=")))
    if "operator" not in arrays:
        return Measurements(y, None)
    try:
        config = json.loads(str(arrays["operator"].tolist()))
        given = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
        op = operator_from_config(config, given)
    except json.JSONDecodeError:
        raise InputError(f"{path} has an operator that is not JSON; write its config() with json.dumps.") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    _check_pair(y, op, path)
    return Measurements(y, op)


def _check_pair(y: Tensor, op: LinearOperator, path: Path) -> None:
    """Refuse y that the operator cannot have taken."""
    taken = getattr(op, "measurements", y.shape[1])
    if y.shape[1] != taken:
        raise InputError(
            f"{path}: y has {y.shape[1]} numbers an image, but its {type(op).__name__} takes {taken}; "
            "give the operator that took it."
        )

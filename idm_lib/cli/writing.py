"""Writing a result, or saying in one line why it could not be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from idm_lib.errors import InputError


def predicted(quality: Any | None) -> dict[str, Any] | None:
    """What held-back measurements say of the quality, as JSON has it; None where none were held back."""
    names = ("psnr", "low", "high", "confidence", "samples")
    return {name: getattr(quality, name) for name in names} if quality else None


def write(out: Path, name: str, how: Callable[[Path], Any]) -> None:
    """Call ``how`` with the path of ``name`` in the folder ``out``.

    Raises:
        InputError: it could not be written.
    """
    try:
        how(out / name)
    except OSError as error:
        raise InputError(
            f"{out / name} could not be written ({error.strerror or error}); give another --out."
        ) from None

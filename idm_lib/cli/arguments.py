"""What options are checked with: a wrong value is one line and exit code 2, like any wrong command line."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from idm_lib.errors import InputError


class UsageError(InputError):
    """Options that contradict each other, or name what cannot be used: the command line is wrong, exit code 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is, and leave with exit code 2."""
        print(f"{self.prog}: {message.rstrip('.')}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """An argparse type from a function that raises ValueError for text that is wrong."""

    def parse(text: str) -> Any:
        try:
            return convert(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a number; got {text!r}") from None

    return parse


def ratio(text: str) -> float:
    """γ in (0, 1]."""
    from idm_lib.operators.base import check_ratio  # here, since it imports torch

    return check_ratio(float(text))


def seed(text: str) -> int:
    """A seed that numpy takes."""
    from idm_lib.operators.random import check_seed

    return check_seed(int(text))


def share(text: str) -> float:
    """A fraction in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise InputError(f"must lie in [0, 1), as 0.01 for one in a hundred; got {text}.")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise InputError(f"must be at least 1; got {text}.")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise InputError(f"must be above 0; got {text}.")
    return value


def device(text: str) -> str:
    """The name of a device that torch has here."""
    import torch

    try:
        torch.zeros(1, device=text).item()  # meta tensors exist but hold nothing
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {text!r} here; give cpu, or cuda where a GPU is.") from None
    return text


def as_json(report: Any) -> str:
    """JSON for any reader: what is not a finite number (the PSNR of a perfect image) becomes null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(report), indent=2, allow_nan=False)

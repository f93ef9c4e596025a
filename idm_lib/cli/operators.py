"""What ``measure`` and ``reconstruct`` share: operators by their configuration, and measurements from files."""

import argparse
import json
import math
from inspect import signature
from pathlib import Path
from typing import Any

from idm_lib.cli.arguments import UsageError
from idm_lib.errors import InputError


def add_operator_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare --operator."""
    parser.add_argument(
        "--operator",
        metavar="CONFIG",
        help=f'what measures, as JSON or a file of it: {{"operator": its class, its numbers}} ({default})',
    )


def read_config(text: str) -> dict[str, Any]:
    """A configuration given as JSON, or as the path of a file of it.

    Raises:
        UsageError: no such file, or no JSON object.
    """
    try:
        content = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        config = json.loads(content)
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"--operator must be JSON, or a file of it that can be read; got {text!r}") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"--operator is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f'--operator must be an object, as {{"operator": "BlockCS", …}}; got {text!r}')
    return config


def operator_for_image(options: argparse.Namespace, size: tuple[int, int]) -> Any:
    """The operator of --operator, --ratio, --seed and --noise, for an image of that size.

    Raises:
        UsageError: options that contradict each other, or make no operator.
    """
    from idm_lib.operators.configuration import operator_class, operator_from_config

    config = {"operator": "BlockCS"} if options.operator is None else read_config(options.operator)
    given = {"image_size": list(size), "ratio": options.ratio, "noise_std": options.noise}
    if options.noise is not None and not math.isfinite(options.noise):
        raise UsageError(f"noise_std must be a finite number of at least 0; got {options.noise}")
    for name, value in given.items():
        if value is not None and config.setdefault(name, value) != value:
            raise UsageError(f"the configuration has {name} {config[name]}, but {value} was asked for")
    try:
        takes = signature(operator_class(config.get("operator"))).parameters
        defaults = {"seed": options.seed} | ({"ratio": 0.1} if "mask" not in takes else {})
        return operator_from_config({name: value for name, value in defaults.items() if name in takes} | config)
    except InputError as error:
        raise UsageError(str(error)) from None


def measurements_of(options: argparse.Namespace) -> tuple[Any, Any]:
    """y and the operator of --measurements; --operator where the file names none. A scanner's k-space names its own.

    Raises:
        UsageError: no file of measurements, no operator at all, two that differ, or one that did not take them.
    """
    from idm_lib.medical import is_scan
    from idm_lib.operators import load_kspace, load_measurements, operator_from_config

    try:
        if is_scan(options.measurements):
            if options.operator is not None:
                raise UsageError("--operator cannot go with a scanner's file: it tells what measured")
            return load_kspace(options.measurements)[:2]
        y, op = load_measurements(options.measurements)
        asked = None if options.operator is None else operator_from_config(read_config(options.operator))
    except UsageError:
        raise
    except InputError as error:
        raise UsageError(str(error)) from None
    if op is None and asked is None:
        raise UsageError(f"{options.measurements} names no operator; give it by --operator")
    if op is not None and asked is not None and asked.config() != op.config():
        differing = sorted(
            k for k in asked.config().keys() | op.config() if asked.config().get(k) != op.config().get(k)
        )
        raise UsageError(f"--operator differs from the one in {options.measurements} in {', '.join(differing)}")
    op = op or asked
    if y.shape[1] != op.measurements:
        raise UsageError(
            f"{options.measurements} has {y.shape[1]} numbers an image; a {type(op).__name__} of these numbers takes "
            f"{op.measurements}"
        )
    return y, op

"""What ``reconstruct`` and ``evaluate`` share: choosing a method and loading its prior."""

import argparse
from typing import Any

from idm_lib.cli import arguments
from idm_lib.errors import InputError

METHODS = ("pinv", "tv", "ddnm", "oamp")
PRECISIONS = {"fp32": None, "bf16": "bfloat16", "fp16": "float16"}


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --ratio, --method, --prior, --iterations, --precision, --tile, --seed and --device."""
    parser.add_argument(
        "--ratio",
        type=arguments.checked(arguments.ratio),
        default=0.1,
        help="measurements per pixel, in (0, 1] (default: 0.1)",
    )
    parser.add_argument("--method", choices=METHODS, default="oamp", help="how to reconstruct (default: oamp)")
    parser.add_argument(
        "--prior", default="prior-tiny", help="a shipped name, a folder or a hub id, for ddnm and oamp"
    )
    parser.add_argument(
        "--iterations",
        type=arguments.checked(arguments.count),
        help="iterations or sampling steps (default: the method's own)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="in which the network is evaluated (default: fp32)"
    )
    parser.add_argument(
        "--tile",
        type=arguments.checked(arguments.count),
        help="evaluate the network on overlapping tiles of so many pixels a side, for large photos",
    )
    parser.add_argument(
        "--seed",
        type=arguments.checked(arguments.seed),
        default=0,
        help="of the operator and of what the method draws (default: 0)",
    )
    parser.add_argument(
        "--device", type=arguments.checked(arguments.device), default="cpu", help="cpu, cuda or cuda:N (default: cpu)"
    )


def build_method(options: argparse.Namespace) -> Any:
    """The solver with its prior, iterations and seed filled in: ``method(y, op, progress=None)``."""
    from idm_lib.solvers import get_solver, needs_prior

    solver, prior = get_solver(options.method), None
    if needs_prior(options.method):
        from idm_lib.models import Denoiser

        prior = _optimised(Denoiser.from_pretrained(options.prior).to(options.device), options)
    elif options.tile or options.precision != "fp32":
        raise InputError(f"--precision and --tile are for methods with a network; {options.method} has none.")

    def method(y: Any, op: Any, progress: Any = None) -> Any:
        return solver(y, op, prior, iterations=options.iterations, seed=options.seed, progress=progress)

    return method


def _optimised(model: Any, options: argparse.Namespace) -> Any:
    """The model in the precision and on the tiles that were asked for; as it is if nothing was."""
    import torch

    from idm_lib.models import InferenceOptions, optimised

    name = PRECISIONS[options.precision]
    if name is None and options.tile is None:
        return model
    dtype = getattr(torch, name) if name else None
    overlap = min(64, options.tile // 16 * 8) if options.tile else 0  # half a tile at most
    return optimised(model, InferenceOptions(dtype=dtype, tile=options.tile, overlap=overlap))

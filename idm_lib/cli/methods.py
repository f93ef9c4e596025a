"""What ``reconstruct`` and ``evaluate`` share: choosing a fine-tuned model, or a method and its prior."""

import argparse
from typing import Any

from idm_lib.cli import arguments
from idm_lib.errors import InputError

METHODS = ("pinv", "tv", "ddnm", "oamp")
DEFAULT_MODEL, DEFAULT_PRIOR = "tiny", "prior-tiny"
PRECISIONS = {"fp32": None, "bf16": "bfloat16", "fp16": "float16"}


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --ratio, --model, --method, --prior, --iterations, --precision, --tile, --seed and --device."""
    parser.add_argument(
        "--ratio",
        type=arguments.checked(arguments.ratio),
        default=0.1,
        help="measurements per pixel, in (0, 1] (default: 0.1)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--model", help=f"a fine-tuned model: a shipped name, a folder or a hub id (default: {DEFAULT_MODEL})"
    )
    how.add_argument("--method", choices=METHODS, help="reconstruct by a method that needs no fine-tuning instead")
    parser.add_argument(
        "--prior", help=f"a shipped name, a folder or a hub id, for ddnm and oamp (default: {DEFAULT_PRIOR})"
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


def chosen(options: argparse.Namespace) -> tuple[str, str | None]:
    """What reconstructs, ``idm`` or a method's name, and its weights; None if it has none.

    Raises:
        InputError: options of a network for a method without, a prior or iterations for a fine-tuned model, or an
            empty name.
    """
    from idm_lib.solvers import needs_prior

    for name in ("model", "prior"):
        if getattr(options, name) == "":
            raise InputError(f"--{name} must be a name or a folder; got nothing; leave it out for the default.")
    if options.method is None:
        for name in ("prior", "iterations"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} is for methods without fine-tuning; give --method too, or leave it out.")
        return "idm", options.model or DEFAULT_MODEL
    if needs_prior(options.method):
        return options.method, options.prior or DEFAULT_PRIOR
    if options.tile or options.precision != "fp32":
        raise InputError(f"--precision and --tile are for methods with a network; {options.method} has none.")
    return options.method, None


def build_method(options: argparse.Namespace, operator: str = "BlockCS") -> Any:
    """The solver with its weights, iterations and seed filled in: ``method(y, op, progress=None)``.

    Args:
        options: as declared above.
        operator: class of the operator that measures.

    Raises:
        InputError: as :func:`chosen`; weights that cannot be loaded; a model that was trained for another operator.
    """
    from idm_lib.solvers import fine_tuned, get_solver

    name, weights = chosen(options)
    solver, network = fine_tuned if name == "idm" else get_solver(name), None
    if weights is not None:
        from idm_lib.models import Denoiser, InvertibleDiffusion

        kind = InvertibleDiffusion if name == "idm" else Denoiser
        loaded = kind.from_pretrained(weights)
        if name == "idm":
            _check_trained_for(operator, loaded.config.operator, weights)
        network = _optimised(loaded.to(options.device), options)

    def method(y: Any, op: Any, progress: Any = None) -> Any:
        return solver(y, op, network, iterations=options.iterations, seed=options.seed, progress=progress)

    return method


def _check_trained_for(operator: str, trained: dict[str, Any] | None, weights: str) -> None:
    known = (trained or {}).get("operator", "BlockCS")
    if known != operator:
        cure = (
            f'measure by idm measure --operator \'{{"operator": "{known}", …}}\' and give the file as --measurements'
            if operator == "BlockCS"
            else "give --method, or a --model that was trained for it"
        )
        raise InputError(f"{weights} was trained for {known}, and the measurements are of {operator}; {cure}.")


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

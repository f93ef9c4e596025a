"""What a training step will cost in memory and time, for any size and policy, without running it.

  idm plan --model sd15 --image-size 256 --batch 8 --steps 3 --precision amp --policy default
  idm plan --model sd15 --image-size 256 --batch 8 --budget-gib 15

Without --policy or --budget-gib all policies are compared. The model's own training step is counted on tensors
without data, so no GPU is needed, nor memory of the model's size. Sizes are in GiB, time in forward passes.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from idm_lib.cli.arguments import as_json, checked, count, positive

SUMMARY = "what a training step costs in memory and time, for any size and policy"
_POLICIES = ("store", "paper", "least", "lean", "default", "fast")
_PRECISIONS = ("fp32", "amp", "fp64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--model", default="sd15", help="sd15, a shipped model, or a folder with a config.json (default: sd15)"
    )
    parser.add_argument(
        "--image-size", type=checked(count), nargs="+", default=[256], metavar="N",
        help="side of a square image in pixels, or height and width (default: 256)",
    )  # fmt: skip
    parser.add_argument("--batch", type=checked(count), default=8, help="images in a training step (default: 8)")
    parser.add_argument("--steps", type=checked(count), help="T, sampling steps (default: the model's own)")
    parser.add_argument("--precision", choices=_PRECISIONS, default="amp", help="amp: half precision (default: amp)")
    parser.add_argument("--micro-batch", type=checked(count), help="images at a time (default: the whole batch)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--policy", choices=_POLICIES, help="plan for this policy")
    choice.add_argument(
        "--budget-gib", type=checked(positive), help="find the fastest policy and micro-batch that fit into this"
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(options: argparse.Namespace) -> int:
    """Plan and print."""
    from idm_lib.errors import InputError
    from idm_lib.memory import MemoryPolicy, fastest_that_fits, plan
    from idm_lib.models.planning import model_config, training_problem

    if len(options.image_size) > 2:
        raise InputError(f"expected --image-size as one number or two, got {len(options.image_size)}.")
    if options.micro_batch and options.budget_gib:
        raise InputError("expected --micro-batch or --budget-gib, got both: a budget chooses the micro-batch itself.")
    if options.micro_batch and options.batch % options.micro_batch:
        raise InputError(f"expected a batch of whole micro-batches, got {options.batch} and {options.micro_batch}.")
    config = model_config(options.model)
    if options.steps:
        config["steps"] = options.steps
    height, width = options.image_size[0], options.image_size[-1]
    make = training_problem(config, (height, width))
    if options.budget_gib:
        found = _spinning(lambda: fastest_that_fits(make, options.batch, options.budget_gib, options.precision))
        rows = [row(*found)]
    else:
        names = [options.policy] if options.policy else list(_POLICIES)
        rows = [
            row(name, _spinning(lambda name=name: plan(
                make, MemoryPolicy.named(name), options.batch, options.precision, options.micro_batch
            )))
            for name in names
        ]  # fmt: skip
    case = {
        "model": options.model,
        "image_size": [height, width],
        "steps": config.get("steps", 3),
    }
    reports = [values | case for values in rows]
    if options.json:
        print(as_json(reports[0] if len(reports) == 1 else reports))
    else:
        _print_table(reports)
    return 0


def row(name: str, found: Any) -> dict[str, Any]:
    """One plan as JSON has it."""
    return {
        "policy": name,
        "micro_batch": found.micro_batch,
        "batch": found.batch,
        "precision": found.precision,
        "peak_gib": found.peak_gib,
        "drift_cure_gib": found.drift_cure_gib,
        "persistent_gib": found.persistent_gib,
        "total_gib": found.total_gib,
        "forward_units": found.forward_units,
        "flops": found.flops,
        "forwards_per_layer": found.forwards_per_layer,
    }


def _spinning(work: Callable[[], Any]) -> Any:
    """Do the work; where somebody watches, say that it is being done."""
    if not sys.stderr.isatty():
        return work()
    print("counting …", end="\r", file=sys.stderr, flush=True)
    try:
        return work()
    finally:
        print(" " * 10, end="\r", file=sys.stderr, flush=True)


def _print_table(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    height, width = first["image_size"]
    print(
        f"{first['model']}, {height} × {width} pixels, batch {first['batch']}, T = {first['steps']}, "
        f"{first['precision']}"
    )
    columns = ("policy", "at a time", "peak", "cure", "in all", "× forward", "per layer")
    print(f"{columns[0]:<8}" + "".join(f"{name:>11}" for name in columns[1:]))
    for r in rows:
        sizes = "".join(f"{r[key]:>11.2f}" for key in ("peak_gib", "drift_cure_gib", "total_gib"))
        print(
            f"{r['policy']:<8}{r['micro_batch']:>11}{sizes}{r['forward_units']:>11.2f}{r['forwards_per_layer']:>11.2f}"
        )
    print(
        "In GiB: activations and gradients at the peak of a step; the part of it that cures rounding; all, with\n"
        f"parameters and Adam's moments. Between steps {first['persistent_gib']:.2f} GiB stay: parameters, gradients "
        "and moments."
    )

"""What a training step costs at full scale under every policy, counted without a GPU (``idm bench plan``)."""

import argparse
from collections.abc import Sequence

from benchmarks.provenance import provenance, read, write
from idm_lib.cli.plan import row
from idm_lib.memory import MemoryPolicy, plan
from idm_lib.models.planning import model_config, training_problem

POLICIES = ("default", "lean", "least", "store", "fast", "paper")
CASES = ((256, 3), (256, 1), (512, 3), (256, 10), (512, 1), (512, 10))  # image size and T


def main(argv: Sequence[str] = ()) -> int:
    """Count and write results/plan.json."""
    parser = argparse.ArgumentParser(prog="idm bench plan", description=__doc__)
    parser.add_argument("--model", default="sd15")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="amp")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the image sizes and T to count")
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--add", action="store_true", help="keep the record's rows of other policies and cases")
    options = parser.parse_args(argv)
    kept = read("plan") if options.add else {"rows": []}
    rows = [{"commit": kept["provenance"]["commit"]} | r for r in kept["rows"]]
    commit = provenance(None)["commit"]
    for size, steps in CASES[: options.cases]:
        make = training_problem(model_config(options.model) | {"steps": steps}, (size, size))
        for name in options.policies:
            found = plan(make, MemoryPolicy.named(name), options.batch, options.precision)
            case = {"model": options.model, "image_size": size, "steps": steps} | row(name, found)
            same = ("model", "image_size", "steps", "policy", "batch", "precision")
            rows = [r for r in rows if any(r[key] != case[key] for key in same)] + [case | {"commit": commit}]
            print(
                f"  {size}², T = {steps}, {name}: {found.peak_gib:.2f} GiB, {found.forward_units:.3f} forward passes",
                flush=True,
            )
        target = write("plan", {"rows": rows})  # after each case: a long count that is stopped has not been in vain
    print(f"written: {target}")
    return 0

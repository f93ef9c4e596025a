"""What fits which card: a step at full scale by policy and micro-batch, counted (``idm bench micro_batches``)."""

import argparse
from collections.abc import Sequence

from benchmarks.provenance import write
from idm_lib.cli.plan import row
from idm_lib.memory import MemoryPolicy, plan
from idm_lib.models.planning import model_config, training_problem

POLICIES = ("store", "fast", "default")  # what a card of 15 GiB or more has to choose from


def main(argv: Sequence[str] = ()) -> int:
    """Count and write results/micro-batches.json."""
    parser = argparse.ArgumentParser(prog="idm bench micro_batches", description=__doc__)
    parser.add_argument("--model", default="sd15")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args(argv)
    make = training_problem(model_config(options.model), (options.image_size, options.image_size))
    sizes = [size for size in range(1, options.batch + 1) if options.batch % size == 0]
    rows = []
    for name in POLICIES:
        for size in sizes:
            found = plan(make, MemoryPolicy.named(name), options.batch, "amp", size)
            rows.append({"model": options.model, "image_size": options.image_size} | row(name, found))
            print(f"  {name}, {size} at a time: {found.total_gib:.2f} GiB", flush=True)
            target = write("micro-batches", {"rows": rows})
    print(f"written: {target}")
    return 0

"""The time of A and Aᵀ beside a plain copy of the image, at 256² and 1024² (``idm bench operators``).

All in one run, alternating, so that the ratios mean something on a machine whose speed wobbles.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

import idm_lib as idm
from benchmarks.provenance import write


def milliseconds(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each action over ``rounds`` rounds in which all of them take turns."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 2):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if turn >= 2:  # the first rounds warm the caches
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/operators.json."""
    parser = argparse.ArgumentParser(prog="idm bench operators", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="rounds to take the median of")
    parser.add_argument("--seed", type=int, default=0, help="of the operator and the image")
    options = parser.parse_args(argv)
    rows = []
    for side in (256, 1024):
        for ratio in (0.1, 0.5):
            op = idm.BlockCS((side, side), ratio, seed=options.seed)
            x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(options.seed))
            y = op.A(x)
            times = milliseconds(
                {"copy": x.clone, "A": lambda op=op, x=x: op.A(x), "A_adjoint": lambda op=op, y=y: op.A_adjoint(y)},
                options.rounds,
            )
            dense = op.measurements * side**2 * 4 / 2**30
            rows.append({"side": side, "ratio": ratio, "ms": times, "dense_matrix_gib": dense})
            print(
                f"{side}² at {ratio:.0%}: A {times['A']:.2f} ms, Aᵀ {times['A_adjoint']:.2f} ms, "
                f"copy {times['copy']:.3f} ms (a dense A would take {dense:.1f} GiB)"
            )
    print(f"written: {write('operators', {'rows': rows}, seed=options.seed)}")
    return 0

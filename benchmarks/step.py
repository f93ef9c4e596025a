"""Wall time of a training step under every policy, as ratios to plain autograd in one run (``idm bench step``).

Beside each time stand the work and the bytes that were counted for the same step, without running it.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import torch

from benchmarks.provenance import write
from idm_lib.memory import MemoryPolicy, plan
from idm_lib.models.planning import model_config, training_problem

POLICIES = ("store", "fast", "default", "lean", "least", "paper")


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/step.json."""
    parser = argparse.ArgumentParser(prog="idm bench step", description=__doc__)
    parser.add_argument("--model", default="sd15")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; in each, all policies take turns")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    config = model_config(options.model) | {"steps": options.steps}
    make = training_problem(config, (options.image_size, options.image_size))
    planned = {name: plan(make, MemoryPolicy.named(name), options.batch, "fp32") for name in POLICIES}
    problem = make()
    seconds: dict[str, list[float]] = {name: [] for name in POLICIES}
    for number in range(options.rounds + 1):
        for name in POLICIES:
            problem.model.zero_grad(set_to_none=True)
            start = time.perf_counter()
            problem.loss(options.batch, MemoryPolicy.named(name)).backward()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    # Within a round the machine's load is much the same, so the ratio is taken there and its median over the rounds.
    ratios = {name: [a / b for a, b in zip(seconds[name], seconds["store"], strict=True)] for name in POLICIES}
    rows = [
        {
            "policy": name,
            "time_ratio": statistics.median(ratios[name]),
            "ratio_low": min(ratios[name]),
            "ratio_high": max(ratios[name]),
            "seconds": statistics.median(seconds[name]),
            "forward_units": planned[name].forward_units,
            "work_ratio": planned[name].flops / planned["store"].flops,
            "peak_gib": planned[name].peak_gib,
        }
        for name in POLICIES
    ]
    for row in rows:
        print(
            f"  {row['policy']:<8} {row['time_ratio']:.2f} × store in time, {row['work_ratio']:.2f} in work, "
            f"{row['seconds']:.2f} s"
        )
    payload = {key: getattr(options, key) for key in ("model", "image_size", "batch", "steps", "rounds")}
    print(f"written: {write('step', payload | {'precision': 'fp32', 'rows': rows}, seed=options.seed)}")
    return 0

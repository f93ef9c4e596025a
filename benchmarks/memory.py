"""The planner's peak against what a CUDA device allocates (``idm bench memory``); needs a GPU.

PyTorch's allocator rounds every tensor up and kernels take room of their own to work in, neither of which the planner
counts.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.provenance import write
from idm_lib.memory import MemoryPolicy, Problem, plan
from idm_lib.memory.planner import GIB
from idm_lib.models.planning import model_config, training_problem

POLICIES = ("default", "lean", "least", "fast", "paper", "store")


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/memory-gpu.json."""
    parser = argparse.ArgumentParser(prog="idm bench memory", description=__doc__)
    parser.add_argument("--model", default="sd15")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="amp")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("skipped: there is no CUDA device here to measure on.")
        return 0
    config, size = model_config(options.model), (options.image_size, options.image_size)
    rows = []
    for name in POLICIES:
        policy = MemoryPolicy.named(name)
        planned = plan(training_problem(config, size), policy, options.batch, options.precision)
        row: dict[str, Any] = {"policy": name, "batch": options.batch, "image_size": options.image_size}
        row |= {"precision": options.precision, "planned_gib": planned.peak_gib}
        try:
            row["measured_gib"] = measured_gib(config, size, policy, options.batch, options.precision)
            row["ratio"] = row["planned_gib"] / row["measured_gib"]
        except torch.cuda.OutOfMemoryError:
            row["note"] = "does not fit on this device"
        rows.append(row)
        print(
            "  " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()), flush=True
        )
    print(f"written: {write('memory-gpu', {'model': options.model, 'rows': rows})}")
    return 0


def measured_gib(
    config: dict[str, Any], size: tuple[int, int], policy: MemoryPolicy, batch: int, precision: str
) -> float:
    """Peak of one training step beyond parameters and data, as the CUDA allocator saw it; the second of two steps."""
    torch.cuda.empty_cache()
    problem = training_problem(config, size, device="cuda")()
    if precision == "fp64":
        problem.model.double()
    peak = 0
    for _ in range(2):  # the first one also fills the caches of cuBLAS and cuDNN
        problem.model.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        loss_in(problem, policy, batch, precision, "cuda").backward()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
    return peak / GIB


def loss_in(problem: Problem, policy: MemoryPolicy, batch: int, precision: str, device: str) -> torch.Tensor:
    """The loss of one training step, in the precision that the planner plans for."""
    with torch.autocast(device, dtype=torch.float16, enabled=precision == "amp"):
        return problem.loss(batch, policy)

"""What a CUDA GPU does with it, in one run of less than nine minutes (``idm bench gpu``).

Training at Stable Diffusion's size under mixed precision: plain autograd, checkpoints, and every policy, with the
peak of memory, the time of a step and the planner's error. Inference: images a second by precision, layout and
compiler, with the loss in dB on the trained weights that ship. Speed: DDNM's hundred steps on the full U-Net beside
the chain's three on the pruned one. What does not fit is recorded as that, and so is what the time did not allow.
Writes results/gpu-<device>.json.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import idm_lib as idm
from benchmarks._clock import Budget, Row, seconds
from benchmarks._gpu_inference import COMPILED, OPTIONS, against_ddnm, options_rows
from benchmarks.frontier import POLICIES, Counter
from benchmarks.memory import loss_in
from benchmarks.provenance import read, write
from idm_lib.memory import MemoryPolicy
from idm_lib.memory.planner import GIB
from idm_lib.models.planning import model_config, training_problem

ORDER = ("default", "lean", "store", "checkpoints", "fast", "paper", "least")


@dataclass(frozen=True)
class Case:
    """What is measured; a test makes it small.

    Args:
        device: ``cuda``, or ``cpu`` where the path is tried out; there is no peak of memory then.
        model: name of the configuration, for the planned figures.
        cases: (batch, image size) of the training steps, the most wanted first.
        precision: ``amp`` or ``fp32``.
        full: of the full U-Net, where it is not Stable Diffusion v1.5's.
        inference: (batch, image size).
        ddnm_steps: of DDNM.
        rounds: calls to take the fastest of.
        compiled: whether to try the compiler.
    """

    device: str = "cuda"
    model: str = "sd15"
    cases: Sequence[tuple[int, int]] = ((8, 256), (1, 256), (1, 512), (8, 512))
    precision: str = "amp"
    full: Mapping[str, Any] = field(default_factory=dict)
    inference: tuple[int, int] = (8, 256)
    ddnm_steps: int = 100
    rounds: int = 5
    compiled: bool = True


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/gpu-<device>.json; say so and stop where there is no GPU."""
    parser = argparse.ArgumentParser(prog="idm bench gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=480, help="no measurement begins later (default: 480)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("skipped: there is no CUDA device here to measure on.")
        return 0
    payload = record(Case(compiled=not options.no_compile), Budget(options.seconds))
    print(f"written: {write(slug(torch.cuda.get_device_name()), payload, seed=0)}")
    return 0


def slug(device_name: str) -> str:
    """``NVIDIA A100-SXM4-40GB`` → ``gpu-nvidia-a100-sxm4-40gb``."""
    return "gpu-" + re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")


def record(case: Case, budget: Budget) -> Row:
    """Measure everything in the order of what is wanted most, while the budget lasts."""
    torch.manual_seed(0)
    on_gpu = case.device == "cuda"
    payload: Row = {"model": case.model, "precision": case.precision, "ddnm_steps": case.ddnm_steps}
    payload["device"] = torch.cuda.get_device_name() if on_gpu else "cpu"
    payload["device_gib"] = torch.cuda.get_device_properties(0).total_memory / GIB if on_gpu else None
    large = [c for c in case.cases if c == max(case.cases)]  # it takes longest, so it comes last
    payload["training"] = training(case, budget, [c for c in case.cases if c not in large])
    batch, size = case.inference
    with torch.device(case.device):
        chain = idm.InvertibleDiffusion(**model_config(case.model))
    payload["ddnm"] = against_ddnm(budget, chain, case.full, size, case.ddnm_steps, case.device, min(2, case.rounds))
    tiny = idm.InvertibleDiffusion.from_pretrained("tiny")
    common = {"device": case.device, "rounds": case.rounds}
    payload["inference"] = options_rows(budget, "tiny", tiny, size, batch, True, OPTIONS, **common)
    payload["inference"] += options_rows(budget, case.model, chain, size, batch, False, OPTIONS, **common)
    payload["training"] += training(case, budget, large)
    if case.compiled:
        payload["inference"] += options_rows(budget, "tiny", tiny, size, batch, True, COMPILED, **common)
        payload["inference"] += options_rows(budget, case.model, chain, size, batch, False, COMPILED, **common)
        with torch.device(case.device):
            bare = idm.InvertibleDiffusion(**model_config(case.model) | {"injectors": None})
        name, table = f"{case.model} without injectors", {"float32": OPTIONS["float32"]} | COMPILED
        payload["inference"] += options_rows(budget, name, bare, size, batch, False, table, **common)
    return payload


def training(case: Case, budget: Budget, cases: Sequence[tuple[int, int]]) -> list[Row]:
    """Every policy at every batch and size, with what was planned; times also as ratios to plain autograd."""
    rows, plans = [], known_plans(case.model)
    for batch, size in cases:
        for name in ORDER:
            about = {"policy": name, "batch": batch, "image_size": size}
            row = budget.row(about, 25.0, lambda name=name, b=batch, s=size: step_row(case, POLICIES[name], b, s))
            if row.get("peak_gib"):
                planned = plans.get((name, batch, size))
                row["planned_gib"] = (
                    planned or Counter(case.model)([name], size, batch, 3, cures=False)[0]["peak_gib"]
                )
                row["planner_error"] = row["planned_gib"] / row["peak_gib"] - 1
            rows.append(row)
        plain = next(r for r in rows if (r["policy"], r["batch"], r["image_size"]) == ("store", batch, size))
        for row in rows:
            same = (row["batch"], row["image_size"]) == (batch, size)
            if same and "step_seconds" in row and "step_seconds" in plain:
                row["time_ratio"] = row["step_seconds"] / plain["step_seconds"]
    return rows


def step_row(case: Case, policy: MemoryPolicy, batch: int, size: int) -> Row:
    """A whole training step with Adam: the peak beyond weights and moments, the peak of all, and the time.

    The first step makes the moments and fills the caches of cuBLAS and cuDNN; the second is measured for memory, the
    others for time. The learning rate is 0, so the weights stay what they are.
    """
    device, on_gpu = case.device, case.device == "cuda"
    others = torch.cuda.memory_allocated() if on_gpu else 0  # of models that wait on the device
    problem = training_problem(model_config(case.model), (size, size), device=device)()
    optimiser = torch.optim.Adam(problem.model.parameters(), lr=0.0, fused=on_gpu)
    scaler = torch.amp.GradScaler(device, enabled=on_gpu and case.precision == "amp")

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(loss_in(problem, policy, batch, case.precision, device)).backward()
        scaler.step(optimiser)
        scaler.update()

    step()
    row: Row = {"peak_gib": None, "in_all_gib": None}
    if on_gpu:
        optimiser.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        most = torch.cuda.max_memory_allocated()
        row = {"peak_gib": (most - before) / GIB, "in_all_gib": (most - others) / GIB}
    return row | {"step_seconds": seconds(step, device, case.rounds)}


def known_plans(model: str) -> dict[tuple[str, int, int], float]:
    """(policy, batch, image size) → planned peak, as far as results/frontier.json has it; counting takes long."""
    try:
        found = read("frontier")
    except FileNotFoundError:
        return {}
    rows = [row for axis in ("steps", "batch", "sizes", "gpu_cases") for row in found.get(axis, [])]
    return {
        (row["policy"], row["batch"], row["image_size"]): row["peak_gib"]
        for row in rows
        if found["model"] == model and row["steps"] == 3 and row["micro_batch"] == row["batch"] and row["counted"]
    }

"""Memory against work at full scale, by policy, for any T, image size and batch (``idm bench frontier``).

Counted without a GPU: the training step runs on tensors without data. Not every point is counted. As T grows, one
more step adds the same bytes and operations from some T on; so two counted points give a line, a further one checks
it, and what follows from the line is marked ``"counted": false``. In the batch the peak is convex: it is the largest
of what is alive at each moment, and each moment grows in proportion. So where a middle point lies on the chord, all
between its ends do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.provenance import read, write
from idm_lib.errors import InputError
from idm_lib.memory import MemoryPolicy
from idm_lib.memory.planner import GIB, count_forward, count_step
from idm_lib.models.floor import lower_bound
from idm_lib.models.planning import model_config, training_problem

POLICIES = {name: MemoryPolicy.named(name) for name in ("store", "fast", "default", "lean", "least", "paper")} | {
    "checkpoints": MemoryPolicy("checkpoint", "checkpoint", 1, True)  # the honest competitor: nothing is inverted
}
WANTED_STEPS, LINE_STEPS = (1, 3, 10, 30, 100), (3, 4)
WANTED_BATCHES = (1, 2, 4, 8, 16, 32)
SIZES = (256, 512, 1024, 2048)
TOLERANCE = 1e-6  # relative: a line that misses a counted point by more is not believed
Row = dict[str, Any]
LINEAR = ("peak_bytes", "parameter_bytes", "cure_bytes", "flops", "forward_flops")


def main(argv: Sequence[str] = ()) -> int:
    """Count and write results/frontier.json."""
    parser = argparse.ArgumentParser(prog="idm bench frontier", description=__doc__)
    parser.add_argument("--model", default="sd15")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="sides, at one image and T = 3")
    parser.add_argument("--batch", type=int, default=8, help="of the axis of T")
    parser.add_argument("--image-size", type=int, default=256, help="of the axes of T and of the batch")
    parser.add_argument("--check-steps", type=int, default=30, help="count the default policy at this T as well")
    parser.add_argument("--all", action="store_true", help="count every point instead of following lines; hours")
    parser.add_argument("--gpu-case", type=int, nargs=2, default=[8, 512], help="one more batch and image size")
    parser.add_argument("--name", default="frontier", help="of the record")
    parser.add_argument("--add", action="store_true", help="keep the record's rows of all other policies")
    options = parser.parse_args(argv)
    count = Counter(options.model)
    size, batch, names = options.image_size, options.batch, options.policies
    payload: Row = {"model": options.model, "precision": "amp", "tolerance": TOLERANCE}
    kept = read(options.name) if options.add else {}
    if options.add and any(kept[key] != value for key, value in payload.items()):
        raise InputError("the record is of another model, precision or tolerance; count it anew, without --add.")

    steps = WANTED_STEPS if options.all else (1, *LINE_STEPS, 10)
    counted = [row for T in steps for row in count(names, size, batch, T, cures=options.all or T in LINE_STEPS)]
    if options.check_steps and not options.all and "default" in names:
        counted += count(["default"], size, batch, options.check_steps, cures=False)
    payload["steps"], payload["line_checks"] = follow(counted, "steps", LINE_STEPS, WANTED_STEPS)
    write(options.name, kept_too(payload, kept, names))  # after each axis: a long count is never in vain

    batches = WANTED_BATCHES if options.all else (1, 32)
    base = [row for row in counted if row["steps"] == 3]
    counted = [row for B in batches if batch != B for row in count(names, size, B, 3, cures=options.all)] + base
    payload["batch"], checks = follow(counted, "batch", (1, 32), WANTED_BATCHES)
    payload["line_checks"] += checks
    singles = [row for row in counted if row["batch"] == 1]
    others = [s for s in options.sizes if s != size]
    payload["sizes"] = singles + [r for s in others for r in count(names, s, 1, 3, cures=options.all)]
    write(options.name, kept_too(payload, kept, names))

    places = {(size, batch), *((s, 1) for s in options.sizes)}
    payload["floor"] = [floor(options.model, s, b) for s, b in sorted(places)]
    payload["micro_batches"] = [
        row
        for name in names
        for micro in ((4, 2, 1) if name == "store" else (1,))
        for row in count([name], size, batch, 3, micro=micro, cures=False)
    ]
    payload["gpu_cases"] = count(names, *options.gpu_case[::-1], 3, cures=False)  # for idm bench gpu
    print(f"written: {write(options.name, kept_too(payload, kept, names))}")
    return 0


def kept_too(payload: Row, kept: Row, names: Sequence[str]) -> Row:
    """The payload with what an earlier record has of other policies, and with where that comes from."""
    if not kept:
        return payload
    rows = {
        key: [row for row in old if row["policy"] not in names] + payload.get(key, [])
        for key, old in kept.items()
        if isinstance(old, list) and key not in ("floor", "sources")
    }
    sources = [*kept.get("sources", []), {"policies": "all others"} | kept["provenance"]]
    return payload | rows | {"floor": payload.get("floor", kept["floor"]), "sources": sources}


class Counter:
    """Counts training steps of one model: several policies on one model and one forward pass.

    Args:
        model: the name of a configuration.
    """

    def __init__(self, model: str) -> None:
        self.config = model_config(model)

    def __call__(
        self, names: Sequence[str], size: int, batch: int, steps: int, micro: int | None = None, cures: bool = True
    ) -> list[Row]:
        """One row a policy; ``micro`` images at a time, whose gradients add up; ``cures`` counts those apart."""
        micro = micro or batch
        passes = min(2, batch // micro)  # gradients are there already from the second one on
        rows = []
        with FakeTensorMode(allow_non_fake_inputs=True):
            problem = training_problem(self.config | {"steps": steps}, (size, size))()
            parameters = sum(p.nbytes for p in problem.model.parameters())
            forward = count_forward(problem, micro, "amp")
            for name in names:
                policy = POLICIES[name]
                step = count_step(problem, policy, micro, "amp", passes)
                row: Row = {"policy": name, "image_size": size, "batch": batch, "micro_batch": micro, "steps": steps}
                row |= {"counted": True, "peak_bytes": step.peak_bytes, "parameter_bytes": parameters}
                row |= {"cure_bytes": None, "flops": step.flops // passes * (batch // micro)}
                row |= {"forward_flops": forward.flops * (batch // micro)}
                if cures and policy.blocks == "invert":
                    bare = count_step(problem, replace(policy, streams="input"), micro, "amp", passes)
                    row["cure_bytes"] = step.peak_bytes - bare.peak_bytes
                elif policy.blocks != "invert":
                    row["cure_bytes"] = 0
                rows.append(with_gib(row))
                print(f"  {size}², batch {batch} by {micro}, T = {steps}, {name}: {row['peak_gib']:.3f} GiB, "
                      f"{row['forward_units']:.3f} forward passes", flush=True)  # fmt: skip
        return rows


def with_gib(row: Row) -> Row:
    """Add what follows from bytes and operations: parameters and Adam's moments beside the peak, and units."""
    row["peak_gib"] = row["peak_bytes"] / GIB
    row["cure_gib"] = None if row["cure_bytes"] is None else row["cure_bytes"] / GIB
    row["persistent_gib"] = 4 * row["parameter_bytes"] / GIB
    row["total_gib"] = (3 * row["parameter_bytes"] + row["peak_bytes"]) / GIB
    row["forward_units"] = row["flops"] / row["forward_flops"]
    return row


def follow(
    counted: Sequence[Row], axis: str, ends: tuple[int, int], wanted: Sequence[int]
) -> tuple[list[Row], list[Row]]:
    """Complete every policy's rows along ``axis`` by the line through its rows at ``ends``.

    Returns:
        The rows, sorted, those from the line with ``"counted": False``; and how far each line misses every other
        counted point on its side, in bytes and operations. A policy whose line misses one gets no rows from it.
    """
    rows, checks = list(counted), []
    for name in dict.fromkeys(row["policy"] for row in counted):
        own = {row[axis]: row for row in counted if row["policy"] == name}
        beyond = [at for at in own if at > ends[0] and at not in ends]
        misses = {at: {k: _at(own, ends, at, k) - own[at][k] for k in ("peak_bytes", "flops")} for at in beyond}
        checks += [{"axis": axis, "policy": name, "at": at, "misses": miss} for at, miss in misses.items()]
        good = all(abs(miss[k]) <= TOLERANCE * own[at][k] for at, miss in misses.items() for k in miss)
        if not good or not beyond:
            print(f"  {name}: no line along {axis}; count all with --all", flush=True)
            continue
        for at in wanted:
            if at > ends[0] and at not in own:
                values = {k: _at(own, ends, at, k) for k in LINEAR}
                rows.append(with_gib(own[ends[0]] | {axis: at, "counted": False} | _micro(axis, at) | values))
    return sorted(rows, key=lambda row: (row["policy"], row[axis])), checks


def _micro(axis: str, at: int) -> Row:
    return {"micro_batch": at} if axis == "batch" else {}


def _at(own: dict[int, Row], ends: tuple[int, int], at: int, key: str) -> int | None:
    """The line through the rows at both ends, at another place; None where an end has nothing."""
    (a, b), (low, high) = ends, (own[end][key] for end in ends)
    return None if low is None or high is None else round(low + (high - low) * (at - a) / (b - a))


def floor(model: str, size: int, batch: int) -> Row:
    """The lower bound at T = 3."""
    found = lower_bound(training_problem(model_config(model) | {"steps": 3}, (size, size)), batch)
    return {"image_size": size, "batch": batch, "steps": 3} | asdict(found) | {"total_gib": found.total_gib}

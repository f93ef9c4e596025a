"""Every solver on a test set, with the same prior: dB, seconds, network calls, and how well dB is predicted.

  idm bench solvers --images DIR                        everything but the longest DDNM
  idm bench solvers --images DIR --add ddnm:1000        add rows to the record (same prior, same images)
  idm bench solvers --images DIR --name fine-tuned \\
      --methods ddnm:100 oamp chain:6 oamp@runs/tiny-start-low/final chain:6@runs/tiny-start-low/final idm:tiny

A name is a solver's, with its iterations (ddnm:20); idm with a fine-tuned model's (idm:tiny); or chain with a number
of steps (chain:6): the prior inside a chain of the shipped model's start and wiring, before any fine-tuning. What
follows an @ is the folder of another prior than the shipped one.

One run measures all methods one after another on the same images, so that their seconds compare.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import idm_lib as idm
from benchmarks.provenance import provenance, read, write
from idm_lib.evaluation import evaluate, load_test_set
from idm_lib.models.named import named_config
from idm_lib.solvers import fine_tuned, get_solver

METHODS = ("pinv", "tv", "ddnm:20", "ddnm:100", "oamp")
CALIBRATED = ("pinv", "tv", "ddnm:20", "oamp")
RATIOS = (0.1, 0.3, 0.5)


def method_of(name: str, prior: Any) -> tuple[str, int | None, Callable]:
    """What a name such as ``ddnm:20``, ``idm:tiny`` or ``chain:6`` stands for, its iterations, and ``f(y, op)``."""
    name, _, folder = name.partition("@")
    solver_name, _, rest = name.partition(":")
    if folder:
        called, count, method = method_of(name, idm.Denoiser.from_pretrained(folder).float().eval())
        return f"{called}@{label(folder)}", count, method
    if solver_name == "idm":
        model = idm.InvertibleDiffusion.from_pretrained(rest)
        return solver_name, model.config.steps, lambda y, op: fine_tuned(y, op, model)
    if solver_name == "chain":
        wiring = {key: named_config("tiny")[key] for key in ("v_steps", "v_range", "start")}
        chain = idm.InvertibleDiffusion.from_prior(prior, int(rest), **wiring).eval()
        return solver_name, int(rest), lambda y, op: fine_tuned(y, op, chain)
    count, solver = int(rest) if rest else None, get_solver(solver_name)
    return solver_name, count, lambda y, op: solver(y, op, prior, iterations=count)


def label(folder: str) -> str:
    """What the weights in a folder are called: its name, or the run's that it is the ``final`` of."""
    path = Path(folder)
    return path.parent.name if path.name == "final" else path.name


def weights_hash(name: str) -> str:
    """SHA-256 of a shipped model's weights, or a folder's, so that rows of different weights are never mixed."""
    folder = Path(name) if Path(name).is_dir() else files("idm_lib") / "weights" / name
    path = folder / "diffusion_pytorch_model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/solvers.json, row by row."""
    parser = argparse.ArgumentParser(prog="idm bench solvers", description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder of test images (Set11 for the record)")
    parser.add_argument("--methods", nargs="*", default=METHODS, help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--add", nargs="*", help="measure only these methods and add them to the record, or anew")
    parser.add_argument("--drop", nargs="*", default=[], help="with --add: methods of the record that go, by label")
    parser.add_argument(
        "--calibrate", action="store_true", help="repeat the calibration alone; keep the record's rows"
    )
    parser.add_argument(
        "--take-over", help="name of a record of the same weights and images: add its rows to this one"
    )
    parser.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    parser.add_argument("--name", default="solvers", help="of the record in results/")
    parser.add_argument("--test-set", default="Set11", help="what the images are called")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    prior = idm.Denoiser.from_pretrained("prior-tiny")
    images, broken = load_test_set(options.images)
    if broken:
        raise idm.InputError(broken[0])
    record: dict[str, Any] = {"test_set": options.test_set, "weights": weights_hash("prior-tiny"), "rows": []}
    if options.add or options.calibrate or options.take_over:
        record = read(options.name)
        own = record.pop("provenance")
        if own["seed"] != options.seed or record["weights"] != weights_hash("prior-tiny"):
            raise idm.InputError("the record is of another seed or other weights; measure it anew, without --add.")
        record["rows"] = [row for row in record["rows"] if row["method"] not in options.drop]
        for gone in {method.partition("@")[2] for method in options.drop} - {""}:
            record.pop(f"weights of {gone}", None)
        record["sources"] = [*record.get("sources", []), own]  # each row's ``measured`` says which is its own
    record |= used_weights(options.add or options.methods)
    if options.take_over:
        return _take_over(record, own, options)
    work = [(m, r) for m in options.add or options.methods for r in options.ratios if not options.calibrate]
    for name, ratio in tqdm(work, desc="solvers", unit="row"):
        solver, iterations, method = method_of(name, prior)
        report = evaluate(images, ratio, method, seed=options.seed)
        per_image = [{k: row[k] for k in ("name", "psnr", "ssim", "seconds")} for row in report["per_image"]]
        row = {"method": solver, "iterations": iterations, "ratio": ratio, "true_ratio": report["true_ratio"]}
        row |= {k: report[k] for k in ("psnr", "ssim", "seconds_per_image", "network_calls")}
        row |= {"per_image": per_image, "measured": provenance(options.seed)["date"]}
        row |= {"added": bool(options.add)}  # its seconds are of another run and do not compare with the others'
        same = (solver, iterations, ratio)
        record["rows"] = [r for r in record["rows"] if (r["method"], r["iterations"], r["ratio"]) != same] + [row]
        tqdm.write(
            f"{name:>10} {ratio:.0%}: {row['psnr']:.2f} dB, {row['seconds_per_image']:.2f} s, "
            f"{row['network_calls']:.1f} calls"
        )
        write(options.name, record, seed=options.seed)
    record |= calibration(images, prior, options, record.get("calibration", []) if options.add else [])
    print(f"written: {write(options.name, record, seed=options.seed)}")
    return 0


def used_weights(methods: Sequence[str]) -> dict[str, str]:
    """The hash of every fine-tuned model's weights and of every prior's but the shipped one."""
    found = {f"weights of {m}": weights_hash(m[4:]) for m in methods if m.startswith("idm:")}
    others = {m.partition("@")[2] for m in methods} - {""}
    return found | {f"weights of {label(folder)}": weights_hash(folder) for folder in sorted(others)}


def _take_over(record: dict[str, Any], own: dict[str, Any], options: argparse.Namespace) -> int:
    """Add another record's rows and calibration cases; their seconds are of another run and do not compare."""
    other = read(options.take_over)
    if (
        any(other[key] != record[key] for key in ("weights", "test_set"))
        or other["provenance"]["seed"] != options.seed
    ):
        raise idm.InputError(f"{options.take_over} is a record of other weights, images or another seed.")
    record |= {key: value for key, value in other.items() if key.startswith("weights of ")}
    record["sources"].append(other["provenance"])
    record["rows"] += [row | {"added": True} for row in other["rows"]]
    cases = record["calibration"] = record["calibration"] + other.get("calibration", [])
    record["coverage"] = sum(case["low"] <= case["actual"] <= case["high"] for case in cases) / len(cases)
    print(f"written: {write(options.name, record, seed=options.seed)}")
    return 0


def calibration(
    images: dict[str, torch.Tensor], prior: Any, options: argparse.Namespace, kept: list[dict[str, Any]]
) -> dict[str, Any]:
    """Hold back one measurement in a hundred, predict each PSNR from them, and count how often the interval held.

    Cases of other methods that are ``kept`` count as well.
    """
    methods = options.add or options.methods
    wanted = [name for name in methods if name in CALIBRATED or name.startswith("idm:")]  # none of a folder's
    cases = [case for case in kept if case["method"] not in {name.partition(":")[0] for name in wanted}]
    for name in tqdm(wanted, desc="calibration", unit="method"):
        _, _, method = method_of(name, prior)
        for ratio in options.ratios:
            report = evaluate(images, ratio, method, seed=options.seed, hold=0.01)
            for row in report["per_image"]:
                case = {"image": row["name"], "ratio": ratio, "method": name.partition(":")[0], "actual": row["psnr"]}
                cases.append(case | {k if k != "psnr" else "predicted": v for k, v in row["predicted"].items()})
    inside = [case["low"] <= case["actual"] <= case["high"] for case in cases]
    covered = sum(inside) / len(inside)
    print(f"the 95 % interval held the true PSNR in {covered:.1%} of {len(inside)} cases")
    return {"calibration": cases, "coverage": covered, "confidence": 0.95}

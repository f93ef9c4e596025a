"""Where the solvers' defaults come from: grids on held-out training images, never on a test set.

  idm bench tuning --images BSDS500 [--side 128] [--count 4]

The images are those that training held out: the prior has not seen them. Writes results/tuning.json.
"""

import argparse
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import idm_lib as idm
from benchmarks.provenance import write
from idm_lib.evaluation import psnr
from idm_lib.solvers import ddnm, tv
from idm_lib.training import TrainConfig
from idm_lib.training.data import CropSource

RATIOS = (0.1, 0.3, 0.5)
DDNM = {"sigma_max": (0.5, 1.0), "sigma_min": (0.005, 0.01), "eta": (0.85, 1.0)}
TV = {"first_weight": (0.1, 0.3), "last_weight": (0.0002, 0.0005, 0.002)}


def scores(solve: Any, x: Any, seed: int) -> list[float]:
    """Average PSNR of the images x at each ratio."""
    found = []
    for ratio in RATIOS:
        op = idm.BlockCS(tuple(x.shape[-2:]), ratio, seed=seed)
        found.append(float(psnr(solve(op.A(x), op).image, x).mean()))
    return found


def main(argv: Sequence[str] = ()) -> int:
    """Run the grids and write results/tuning.json, best first."""
    parser = argparse.ArgumentParser(prog="idm bench tuning", description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="the folder that the prior was trained on")
    parser.add_argument("--side", type=int, default=128, help="of the crops")
    parser.add_argument("--count", type=int, default=4, help="how many held-out images")
    parser.add_argument("--iterations", type=int, nargs="*", default=[20, 100], help="DDNM steps to tune at")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    config = TrainConfig.load("prior-tiny")
    source = CropSource(options.images, config.data.crop, config.data.validation, config.seed)
    x = source.validation_crops(options.side)[:: max(1, config.data.validation // options.count)][: options.count]
    prior = idm.Denoiser.from_pretrained("prior-tiny")
    jobs = [("tv", None, dict(zip(TV, v, strict=True))) for v in itertools.product(*TV.values())]
    for steps, values in itertools.product(options.iterations, itertools.product(*DDNM.values())):
        jobs.append(("ddnm", steps, dict(zip(DDNM, values, strict=True))))
    rows = []
    for name, steps, settings in tqdm(jobs, desc="tuning", unit="setting"):
        solver = tv if name == "tv" else ddnm
        found = scores(partial(solver, prior=prior, iterations=steps, seed=options.seed, **settings), x, options.seed)
        rows.append(
            {"method": name, "iterations": steps, **settings, "psnr": dict(zip(map(str, RATIOS), found, strict=True))}
        )
        rows[-1]["mean"] = sum(found) / len(found)
    rows.sort(key=lambda row: (row["method"], row["iterations"] or 0, -row["mean"]))
    for row in rows:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items() if k != "psnr"}, row["psnr"])
    print(f"written: {write('tuning', {'ratios': RATIOS, 'images': len(x), 'rows': rows}, seed=options.seed)}")
    return 0

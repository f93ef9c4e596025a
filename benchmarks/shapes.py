"""Wide and shallow or narrow and deep: U-Nets of one cost, trained alike (``idm bench shapes --data DIR``).

The shapes have nearly the same number of weights and of operations a pixel; both are recorded, and the time of an
image too. Each is trained as a prior for as many updates on the same crops and noise; then a chain is fine-tuned from
it, by the recipe of ``idm bench ablations``. Held-out images judge both. A prior here sees far fewer crops than
the one that ships, so the numbers are to be compared with one another and with nothing else.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.ablations import BASE, CHAIN
from benchmarks.ablations import STEPS as FINE_TUNING
from benchmarks.provenance import write
from idm_lib.memory import measure
from idm_lib.models import Denoiser
from idm_lib.training import ChainTask, TrainConfig, train
from idm_lib.training.data import CropSource
from idm_lib.training.prior import PriorTask

#: Name: (channels of each level, blocks a level).
SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "narrow and deep": ((24, 48, 72), 4),
    "as shipped": ((32, 64, 96), 2),
    "wide and shallow": ((40, 80, 120), 1),
}
UPDATES = 2000  # of each prior


def main(argv: Sequence[str] = ()) -> int:
    """Train, measure and write results/shapes.json, row by row."""
    parser = argparse.ArgumentParser(prog="idm bench shapes", description=__doc__)
    parser.add_argument("--data", required=True, help="folder of images to train on, some of them held out")
    parser.add_argument("--data-name", default="BSDS500 (train and test splits)", help="what the images are called")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    options = parser.parse_args(argv)
    record: dict[str, Any] = {
        "settings": {"prior_updates": UPDATES, "steps": FINE_TUNING, "chain": CHAIN, "data": options.data_name},
        "shapes": _costs(),
        "rows": [],
    }
    work = [(seed, name) for seed in options.seeds for name in SHAPES]
    for seed, name in tqdm(work, desc="shapes", unit="run"):
        record["rows"].append({"shape": name, "seed": seed} | _train(name, seed, options.data))
        tqdm.write(json.dumps(record["rows"][-1]))
        write("shapes", record, seed=seed)
    return 0


def _costs(side: int = 256, rounds: int = 7) -> dict[str, dict[str, Any]]:
    """Weights, operations a pixel, and the time of one call relative to the shipped shape's, taken in turns."""
    models = {
        name: Denoiser(block_channels=channels, layers_per_block=layers).eval()
        for name, (channels, layers) in SHAPES.items()
    }
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    found: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        for name, model in models.items():
            channels, layers = SHAPES[name]
            found[name] = {
                "block_channels": list(channels),
                "layers_per_block": layers,
                "weights": sum(p.numel() for p in model.parameters()),
                "flops_a_pixel": measure(lambda model=model: model(x, 0.1)).flops / side**2,
            }
        for _ in range(rounds):
            for name, model in models.items():
                begin = time.perf_counter()
                model(x, 0.1)
                times[name].append(time.perf_counter() - begin)
    for name, each in times.items():
        found[name]["relative_time"] = median(a / b for a, b in zip(each, times["as shipped"], strict=True))
    return found


def _train(name: str, seed: int, data: str) -> dict[str, Any]:
    """PSNR of the prior by noise level, and of its chain by ratio before and after fine-tuning."""
    channels, layers = SHAPES[name]
    common = [f"data.folder={json.dumps(data)}", f"seed={seed}", "data.validation=12", "export_dtype=float32"]
    common += ["validate_every=100000", "checkpoint_every=100000"]
    shape = [f"model.block_channels={list(channels)}", f"model.layers_per_block={layers}"]
    with tempfile.TemporaryDirectory() as folder:
        quick = [f"steps={UPDATES}", "optimiser.warmup=100", "optimiser.ema=0.995"]
        config = TrainConfig.load("prior-tiny", [*common, *shape, *quick])
        prior = train(PriorTask(config), config, Path(folder) / "prior")
        found = {"prior": _scores(Path(folder) / "prior")}
        first = [f"start={json.dumps(str(prior))}", "model.start=grey"]
        config = TrainConfig.load("tiny", [*common, *first, f"steps={FINE_TUNING}", f"model.steps={CHAIN}", *BASE])
        task = ChainTask(config)
        found["before"] = task.validate(task.build().eval(), CropSource.of(config), torch.device("cpu"))[0]
        train(task, config, Path(folder) / "chain")
        return found | {"after": _scores(Path(folder) / "chain")}


def _scores(run: Path) -> dict[str, float]:
    """The last scores in a run's log."""
    last = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {key: value for key, value in last.items() if key.startswith("psnr")}

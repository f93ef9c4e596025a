"""What each choice is worth in a short fine-tuning of the shipped prior (``idm bench ablations --data DIR``).

Every variant changes one thing of the base, begins with the same prior, and trains for the same number of evaluations
of the network; held-out images judge. Differences of a few hundredths of a dB mean little: look at the seeds' spread.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.provenance import read, write
from benchmarks.solvers import weights_hash
from idm_lib.errors import InputError
from idm_lib.models import InvertibleDiffusion
from idm_lib.training import ChainTask, TrainConfig, train
from idm_lib.training.data import CropSource

#: The shipped recipe, but for its start, the length of the run, of the chain, and the size of a batch.
STEPS, CHAIN = 160, 4
BASE = ("data.crop=64", "data.batch=4", "optimiser.warmup=20", "optimiser.lr=3.0e-4", "optimiser.ema=0.97")
#: Name: (changes, steps of the chain).
VARIANTS: dict[str, tuple[tuple[str, ...], int]] = {
    "base": ((), CHAIN),
    "no injectors": (("model.injectors=null",), CHAIN),
    "steps not wired": (("model.wired_steps=false",), CHAIN),
    "v of the steps 0.1": (("model.v_steps=0.1",), CHAIN),
    "v of the steps 0.3": (("model.v_steps=0.3",), CHAIN),
    "v of the steps 0.5": (("model.v_steps=0.5",), CHAIN),
    "v led from 0.05 to 0.3": (("optimiser.anneal_v=0.3",), CHAIN),
    "u apart from v": (("model.free_steps=true",), CHAIN),
    "schedule held": (("optimiser.hold_schedule=true",), CHAIN),
    "divergence left out": (("model.divergence=false",), CHAIN),
    "loss L1": (("loss=l1",), CHAIN),
    "loss mse": (("loss=mse",), CHAIN),
    "no averaging": (("optimiser.ema=0.0",), CHAIN),
    "ln γ uniform": (("measure.draw=log",), CHAIN),
    "crops of 128": (("data.crop=128", "data.batch=1"), CHAIN),
    "wavelet start": (("model.start=wavelets",), CHAIN),
    "dead leaves": (("data.folder=synthetic",), CHAIN),
    "two steps": ((), 2),
    "eight steps": ((), 8),
}


def main(argv: Sequence[str] = ()) -> int:
    """Train, measure and write results/ablations.json, row by row; rows that are there already are kept."""
    parser = argparse.ArgumentParser(prog="idm bench ablations", description=__doc__)
    parser.add_argument("--data", required=True, help="folder of images to train on, some of them held out")
    parser.add_argument("--data-name", default="BSDS500 (train and test splits)", help="what the images are called")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--add", action="store_true", help="go on with the record that is there")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.variants if name not in VARIANTS]:
        raise InputError(f"there is no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}.")
    settings = {"steps": STEPS, "chain": CHAIN, "base": list(BASE), "data": options.data_name}
    record: dict[str, Any] = {"weights": weights_hash("prior-tiny"), "settings": settings, "rows": []}
    if options.add:
        found = read("ablations")
        if any(found[key] != record[key] for key in ("weights", "settings")):
            raise InputError("the record is of other weights or settings; measure it anew, without --add.")
        record["rows"] = found["rows"]
        record["sources"] = [*found.get("sources", []), found["provenance"]]  # of the rows that are kept
    work = [(seed, name) for seed in options.seeds for name in options.variants]
    untouched: dict[Any, Any] = {}
    have = {(row["seed"], row["variant"]) for row in record["rows"]}
    for seed, name in tqdm([pair for pair in work if pair not in have], desc="ablations", unit="run"):
        record["rows"].append({"variant": name, "seed": seed} | _train(name, seed, options.data, untouched))
        tqdm.write(json.dumps(record["rows"][-1]))
        write("ablations", record, seed=seed)
    return 0


def _train(name: str, seed: int, data: str, untouched: dict[Any, Any]) -> dict[str, Any]:
    """Scores on the held-out images before and after, by ratio, and what the run took."""
    changes, chain = VARIANTS[name]
    steps = STEPS * CHAIN // chain  # the same number of evaluations
    common = (f"data.folder={json.dumps(data)}", f"steps={steps}", f"seed={seed}", f"model.steps={chain}")
    first = ("start=prior-tiny", "model.start=grey")  # the prior and the start that the base was given
    quiet = ("data.validation=12", "validate_every=100000", "checkpoint_every=100000", "export_dtype=float32")
    config = TrainConfig.load("tiny", [*common, *first, *quiet, *BASE, *changes])
    task, cpu = ChainTask(config), torch.device("cpu")
    source = CropSource(data, 64, 12, 0)  # judges whatever is trained on
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        final = train(task, config, run)
        log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        after = {key: value for key, value in log[-1].items() if key.startswith("psnr")}
        if config.data.folder != data:
            after = task.validate(InvertibleDiffusion.from_pretrained(final), source, cpu)[0]
    scores = {"after": after, "seconds": log[-2]["seconds"]}  # of the last step, before it was judged
    key = (chain, *(config.model.get(name) for name in ("v_steps", "wired_steps", "start", "divergence")))
    if key not in untouched:  # the prior in such a chain is the same whatever it will be trained with
        untouched[key] = task.validate(task.build().eval(), source, cpu)[0]
    return {"before": untouched[key]} | scores

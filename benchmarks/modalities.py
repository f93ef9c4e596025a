"""The chain beside every other way, for measurements that are not compressed sensing.

  idm bench modalities --images DIR --tune DIR2 [--unets RUNS]

DIR holds the test images, of each of which the middle is taken; where a model has seen phantoms in training, as many
new ones are measured too. The zero-shot solvers use the shipped prior, which is also what every model began with, and
are tuned here on DIR2's held-out images (those that no training saw), for each setting and number of calls, of which
those above twenty take what is best at twenty; the
chain as it was before training uses its recipe's ladder. RUNS holds NAME-unet/final for each model: the
network that is called once from A⁺y, trained until its curve was nearly flat; the command for it is in the recipe's
first lines.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import idm_lib as idm
from benchmarks.provenance import read, write
from benchmarks.solvers import weights_hash
from idm_lib.evaluation import load_test_set, psnr, ssim
from idm_lib.operators import operator_from_config
from idm_lib.solvers import ddnm, fine_tuned, pinv, pnp, tv
from idm_lib.training import TrainConfig
from idm_lib.training.data import CropSource
from idm_lib.training.phantoms import phantom

LADDERS = ((0.5, 0.02), (0.3, 0.02), (0.3, 0.005), (0.15, 0.02), (0.1, 0.01), (0.05, 0.01), (0.03, 0.01))
DDNM = tuple({"eta": eta, "sigma_max": high} for eta, high in itertools.product((1.0, 0.85, 0.5), (0.25, 0.5, 1.0)))
TV = tuple({"first_weight": a, "last_weight": b} for a, b in itertools.product((0.3, 0.1, 0.03), (0.005, 0.0005)))
FIRST_PHANTOM = 2**31 + 10_000  # seeds that neither training nor its validation used


@dataclass(frozen=True)
class Setting:
    """One kind of measurement: the model for it, and its operator but for the image size."""

    model: str
    label: str
    operator: dict[str, Any]
    phantoms: bool = False


CT = {"operator": "ParallelBeamCT", "max_iterations": 8}
SETTINGS = (
    Setting("tiny-inpainting", "inpainting, 10 % seen", {"operator": "Inpainting", "ratio": 0.1}),
    Setting("tiny-inpainting", "inpainting, 30 % seen", {"operator": "Inpainting", "ratio": 0.3}),
    Setting("tiny-inpainting", "inpainting, 50 % seen", {"operator": "Inpainting", "ratio": 0.5}),
    Setting("tiny-sr4", "super-resolution × 4", {"operator": "SuperResolution", "factor": 4}),
    Setting("tiny-mri4", "MRI, 4 × accelerated", {"operator": "MRI", "ratio": 0.25}, phantoms=True),
    Setting("tiny-ct", "CT, 30 views", CT | {"views": 30}, phantoms=True),
    Setting("tiny-ct", "CT, 60 views", CT | {"views": 60}, phantoms=True),
)
Way = Callable[[Tensor, Any], Any]


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/modalities.json."""
    parser = argparse.ArgumentParser(prog="idm bench modalities", description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder of test images (Set11 for the record)")
    parser.add_argument("--tune", required=True, type=Path, help="folder that the models were trained on")
    parser.add_argument("--unets", type=Path, help="folder of the U-Nets' runs; without it they are left out")
    parser.add_argument("--size", type=int, default=128, help="side of the middle that is taken")
    parser.add_argument("--calls", nargs="*", type=int, default=(6, 20, 100), help="of the zero-shot solvers")
    parser.add_argument("--test-set", default="Set11", help="what the images are called")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--models", nargs="*", choices=sorted({s.model for s in SETTINGS}), help="these alone; other rows are kept"
    )
    options = parser.parse_args(argv)
    images, broken = load_test_set(options.images)
    if broken:
        raise idm.InputError(broken[0])
    photos = torch.cat([middle(images[name], options.size) for name in sorted(images)])  # (B, 1, s, s)
    held_out = CropSource(options.tune, 96, 12, 0).validation_crops(options.size)  # (12, 1, s, s)
    kept = recorded_rows(options)
    rows: list[dict[str, Any]] = []
    for setting in SETTINGS:
        if setting.label in kept:
            rows += kept[setting.label]
            continue
        op = operator_from_config({**setting.operator, "image_size": (options.size, options.size)})
        ways = zero_shot(setting, op, held_out, options)
        ways |= trained(setting, options.unets)
        sets = {options.test_set: photos}
        sets |= {"phantoms": phantoms(len(photos), options.size)} if setting.phantoms else {}
        for (called, x), (name, (way, numbers)) in itertools.product(sets.items(), ways.items()):
            row = {"setting": setting.label, "model": setting.model, "images": called, "method": name}
            rows.append(row | numbers | measured(way, op, x, options.seed))
            print(f"{setting.label:>24} {called:>9} {name:>10}: {rows[-1]['psnr']:.2f} dB", flush=True)
    models = {setting.model for setting in SETTINGS}
    payload = {"test_set": options.test_set, "size": options.size, "weights": weights_hash("prior-tiny")}
    payload |= {f"weights of {name}": weights_hash(name) for name in sorted(models)}
    payload |= {"operators": {setting.label: setting.operator for setting in SETTINGS}, "rows": rows}
    if kept:
        found = read("modalities")
        payload["sources"] = [*found.get("sources", []), found["provenance"]]  # of the rows that are kept
    print(f"written: {write('modalities', payload, seed=options.seed)}")
    return 0


def recorded_rows(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The record's rows of each setting that is not measured anew; none unless ``--models`` chooses.

    Raises:
        InputError: the record is of other images, another size, or other weights than those that are here.
    """
    if not options.models:
        return {}
    found = read("modalities")
    others = [setting for setting in SETTINGS if setting.model not in options.models]
    same = {"test_set": options.test_set, "size": options.size, "weights": weights_hash("prior-tiny")}
    same |= {f"weights of {setting.model}": weights_hash(setting.model) for setting in others}
    if wrong := [key for key, value in same.items() if found.get(key) != value]:
        raise idm.InputError(f"the record has another {wrong[0]}; measure everything anew, without --models.")
    return {s.label: [row for row in found["rows"] if row["setting"] == s.label] for s in others}


def zero_shot(setting: Setting, op: Any, held_out: Tensor, options: Any) -> dict[str, tuple[Way, dict[str, Any]]]:
    """Every solver that needs no fine-tuning, tuned on the held-out images, with the numbers that were chosen."""
    prior = idm.Denoiser.from_pretrained("prior-tiny").float().eval()
    x, few = held_out, held_out[:: max(1, len(held_out) // 4)]  # long runs are tuned on fewer images
    ways: dict[str, tuple[Way, dict[str, Any]]] = {"pinv": (lambda y, op: pinv(y, op), {})}
    chosen = tuned(lambda y, op, **numbers: tv(y, op, **numbers), TV, op, few, options.seed)
    ways["tv"] = (partial(tv, **chosen), {"tuned": chosen})
    starts = [{"start": s, "sigma_max": a, "sigma_min": b} for s in ("grey", "wavelets") for a, b in LADDERS]
    for calls in options.calls:
        solver = partial(with_prior, pnp, prior)
        images = x if calls < 20 else few
        chosen = tuned(partial(solver, iterations=min(calls, 20)), starts, op, images, options.seed)
        ways[f"pnp:{calls}"] = (partial(solver, iterations=calls, **chosen), {"tuned": chosen})
    most = max(options.calls)
    chosen = tuned(partial(with_prior, ddnm, prior, iterations=min(most, 20)), DDNM, op, few, options.seed)
    ways[f"ddnm:{most}"] = (partial(with_prior, ddnm, prior, iterations=most, **chosen), {"tuned": chosen})
    recipe = TrainConfig.load(setting.model).model
    chain = idm.InvertibleDiffusion.from_prior(prior, **recipe).eval()
    ways["chain"] = (lambda y, op: fine_tuned(y, op, chain), {})
    return ways


def trained(setting: Setting, unets: Path | None) -> dict[str, tuple[Way, dict[str, Any]]]:
    """The shipped model, and the U-Net without the chain if its run is there."""
    model = idm.InvertibleDiffusion.from_pretrained(setting.model).float().eval()
    ways: dict[str, tuple[Way, dict[str, Any]]] = {"idm": (lambda y, op: fine_tuned(y, op, model), {})}
    if unets is not None:
        folder = unets / f"{setting.model}-unet" / "final"
        unet = idm.InvertibleDiffusion.from_pretrained(folder).float().eval()
        steps = TrainConfig.load(folder.parent / "config.yaml").steps
        ways["unet"] = (lambda y, op: fine_tuned(y, op, unet), {"training_steps": steps})
    return ways


def with_prior(solver: Callable[..., Any], prior: Any, y: Tensor, op: Any, **numbers: Any) -> Any:
    """A solver's answer, its prior given first."""
    return solver(y, op, prior, **numbers)


def tuned(
    solver: Callable[..., Any], choices: Sequence[dict[str, Any]], op: Any, x: Tensor, seed: int
) -> dict[str, Any]:
    """Of the choices that of the highest mean PSNR on images x, (B, 1, H, W)."""
    y = op.measure(x, seed=seed)
    return dict(max(choices, key=lambda numbers: float(psnr(solver(y, op, **numbers).image.clamp(0, 1), x).mean())))


@torch.no_grad()
def measured(way: Way, op: Any, x: Tensor, seed: int) -> dict[str, Any]:
    """PSNR, SSIM, calls and seconds an image of a way on images x, (B, 1, H, W)."""
    y = op.measure(x, seed=seed)
    began = time.perf_counter()
    found = [way(part, op) for part in y.split(4)]
    seconds = (time.perf_counter() - began) / len(x)
    image = torch.cat([answer.image for answer in found]).clamp(0, 1)
    per_image = psnr(image, x).tolist()
    return {
        "psnr": float(np.mean(per_image)),
        "ssim": float(ssim(image, x).mean()),
        "network_calls": found[0].network_calls,
        "seconds_per_image": seconds,
        "per_image": per_image,
    }


def middle(x: Tensor, side: int) -> Tensor:
    """The middle of an image, (1, 1, H, W) → (1, 1, side, side)."""
    top, left = ((length - side) // 2 for length in x.shape[-2:])
    return x[..., top : top + side, left : left + side]


def phantoms(count: int, side: int) -> Tensor:
    """Phantoms that no training saw, (count, 1, side, side) in [0, 1]."""
    made = [phantom(side, np.random.RandomState([0, FIRST_PHANTOM + i])) for i in range(count)]
    return torch.from_numpy(np.stack(made)).float()[:, None] / 255

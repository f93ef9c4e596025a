"""What the options of inference lose in dB and gain in time and memory (``idm bench inference``).

  idm bench inference                                   the shipped prior inside OAMP
  idm bench inference --model tiny                      a shipped reversible model, or any folder
  idm bench inference --images DIR                      a folder of images instead of scikit-image's photographs

Every option does the same reconstructions from the same measurements in turn, and its loss is against the model as it
is, in float32 on the whole image. Seconds are ratios within the run; bytes and operations are counted, on the meta
device.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import idm_lib as idm
from benchmarks.provenance import write
from benchmarks.solvers import weights_hash
from idm_lib.evaluation import load_test_set, psnr
from idm_lib.memory import measure
from idm_lib.models.blocks import Surroundings
from idm_lib.models.storage import shipped_names
from idm_lib.notebook.photos import photo
from idm_lib.solvers import oamp

Options = idm.InferenceOptions
OPTIONS = {
    "float32, whole image": Options(),
    "channels last": Options(channels_last=True),
    "bfloat16": Options(dtype=torch.bfloat16),
    "bfloat16, channels last": Options(dtype=torch.bfloat16, channels_last=True),
    "tiles of 160, overlap 64": Options(tile=160, overlap=64),
    "tiles of 144, overlap 32": Options(tile=144, overlap=32),
    "tiles of 96, overlap 16": Options(tile=96, overlap=16),
}
CROPS = {
    "float32, whole image": Options(),
    "bfloat16": Options(dtype=torch.bfloat16),
    "float16": Options(dtype=torch.float16),
}
LARGE = {
    "float32, whole image": Options(),
    "tiles of 544, overlap 64": Options(tile=544, overlap=64),
    "tiles of 304, overlap 64": Options(tile=304, overlap=64),
}


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/inference.json."""
    parser = argparse.ArgumentParser(prog="idm bench inference", description=__doc__)
    parser.add_argument("--model", default="prior-tiny", help="a reversible model, or a prior for OAMP")
    parser.add_argument("--images", type=Path, help="folder of test images; default: scikit-image's photographs")
    parser.add_argument("--photos", nargs="*", default=["camera", "astronaut", "coffee"])
    parser.add_argument("--size", type=int, default=256, help="side of the photographs")
    parser.add_argument("--crop", type=int, default=32, help="side of the crops for float16, slow on most CPUs")
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--iterations", type=int, default=4, help="of OAMP")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too, which takes minutes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    model, solve = loaded(options.model)
    images = photographs(options)
    compiled = {"compiled": Options(compile=True)} if options.compile else {}
    middle = {k: v[..., : options.crop, : options.crop] for k, v in images.items()}
    large = {"retina": photo("retina", 1024)}
    run = {"ratio": options.ratio, "seed": options.seed}
    payload: dict[str, Any] = {"model": Path(options.model).name, "ratio": options.ratio}
    payload["iterations"] = {"images": options.iterations, "large": 2} if isinstance(model, idm.Denoiser) else None
    payload["weights"] = weights_hash(options.model) if options.model in shipped_names() else None
    payload["images"] = compare(model, OPTIONS | compiled, images, solve(options.iterations), **run)
    payload["crops"] = compare(model, CROPS, middle, solve(options.iterations), **run)
    payload["large"] = compare(model, LARGE, large, solve(2), **run)
    payload["memory"] = {"this model": network_memory(model.unet), "sd15": network_memory(sd15().unet)}
    print(f"written: {write('inference', payload, seed=options.seed)}")
    return 0


Reconstruct = Callable[[Any, Tensor, Any], Tensor]


def loaded(name: str) -> tuple[Any, Callable[[int], Reconstruct]]:
    """The model, and from a number of iterations how it reconstructs."""
    try:
        return idm.InvertibleDiffusion.from_pretrained(name).eval(), lambda _: lambda model, y, op: model(y, op)
    except idm.InputError:
        prior = idm.Denoiser.from_pretrained(name).eval()
        return prior, lambda count: lambda prior, y, op: oamp(y, op, prior, iterations=count).image


def photographs(options: argparse.Namespace) -> dict[str, Tensor]:
    """Name → (1, 1, H, W)."""
    if options.images is None:
        return {name: photo(name, options.size) for name in options.photos}
    images, broken = load_test_set(options.images)
    if broken:
        raise idm.InputError(broken[0])
    return images


@torch.no_grad()
def compare(
    model: Any,
    table: dict[str, Options],
    images: dict[str, Tensor],
    reconstruct: Reconstruct,
    ratio: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Average PSNR, loss and time of each option; the options take turns on every image."""
    ready = {name: idm.optimised(model, given) for name, given in table.items()}
    found: dict[str, list[float]] = {name: [] for name in table}
    seconds = dict.fromkeys(table, 0.0)
    for number, x in enumerate(images.values()):
        op = idm.BlockCS((x.shape[-2], x.shape[-1]), ratio, seed=seed)
        y = op.A(x)
        for name, prepared in ready.items():
            began = time.perf_counter()
            found[name].append(float(psnr(reconstruct(prepared, y, op).clamp(0, 1), x)))
            if number or len(images) == 1:  # the first image also pays for compiling
                seconds[name] += time.perf_counter() - began
    first = next(iter(table))
    rows = []
    for name in table:
        losses = [whole - value for whole, value in zip(found[first], found[name], strict=True)]
        row = {"option": name, "images": len(images), "psnr": sum(found[name]) / len(images)}
        row |= {"loss_db": sum(losses) / len(losses), "worst_loss_db": max(losses)}
        rows.append(row | {"time_ratio": seconds[name] / seconds[first]})
        print(f"  {name}: loss {row['loss_db']:.4f} dB, time × {rows[-1]['time_ratio']:.2f}", flush=True)
    return rows


def network_memory(unet: torch.nn.Module) -> list[dict[str, Any]]:
    """One evaluation of the network at 1024²: peak bytes of activations and operations, whole and on tiles.

    On the meta device attention is not fused, and its matrix of scores counts whole; where a fused kernel is at hand
    the bytes are far fewer, and the operations as many.
    """
    holder, op = torch.nn.Module(), idm.BlockCS((1024, 1024), 0.25)
    holder.unet = unet
    rows = []
    for name, given in LARGE.items():
        prepared = idm.optimised(holder, given).to("meta").unet
        x = torch.empty(1, prepared.config.in_channels, 512, 512, device="meta")
        sigma = torch.empty(1, device="meta") if prepared.config.noise_channels else None
        around = Surroundings(op=op, back_projection=torch.empty(1, 1, 1024, 1024, device="meta"))
        with torch.no_grad():
            counts = measure(lambda call=prepared, x=x, sigma=sigma, around=around: call(x, sigma, around))
        rows.append({"option": name, "peak_bytes": counts.peak_bytes, "flops": counts.flops})
        print(f"  {name}: {counts.peak_bytes / 2**30:.2f} GiB, {counts.flops / 1e12:.2f} TFLOP", flush=True)
    return rows


def sd15() -> idm.InvertibleDiffusion:
    """The paper's network, attention at both levels, without its injectors; weights on the meta device."""
    with torch.device("meta"):
        return idm.InvertibleDiffusion(steps=1, injectors=(False, False))

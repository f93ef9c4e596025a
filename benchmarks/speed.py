"""How much faster the shipped chain is than DDNM, an image at a time (``idm bench speed --images DIR``).

Both reconstruct the same image from the same measurements with a network of the same shape, one right after the
other, and the order changes from image to image. The ratio is taken within each pair: on a machine that others use as
well, seconds that were measured a quarter of an hour apart do not compare.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import idm_lib as idm
from benchmarks.provenance import write
from benchmarks.solvers import RATIOS, weights_hash
from idm_lib.evaluation import load_test_set, psnr
from idm_lib.solvers import ddnm, fine_tuned


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/speed.json."""
    parser = argparse.ArgumentParser(prog="idm bench speed", description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder of test images (Set11 for the record)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--iterations", type=int, default=100, help="of DDNM")
    parser.add_argument("--count", type=int, default=5, help="how many images, evenly spread over the names")
    parser.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    parser.add_argument("--test-set", default="Set11", help="what the images are called")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    images, broken = load_test_set(options.images)
    if broken:
        raise idm.InputError(broken[0])
    prior = idm.Denoiser.from_pretrained("prior-tiny").eval()
    model = idm.InvertibleDiffusion.from_pretrained(options.model).eval()
    ways = {
        "ddnm": lambda y, op: ddnm(y, op, prior, iterations=options.iterations),
        "idm": lambda y, op: fine_tuned(y, op, model),
    }
    names = sorted(images)
    chosen = [names[i * len(names) // options.count] for i in range(min(options.count, len(names)))]
    rows = []
    for name in chosen:
        for ratio in options.ratios:
            rows.append(
                {"image": name, "ratio": ratio} | pair(ways, images[name], ratio, options.seed, len(rows) % 2)
            )
            print(f"  {name} at {ratio:.0%}: × {rows[-1]['faster']:.2f}", flush=True)
    faster = [row["faster"] for row in rows]
    payload: dict[str, Any] = {"test_set": options.test_set, "model": options.model, "iterations": options.iterations}
    payload |= {"weights": weights_hash("prior-tiny"), f"weights of idm:{options.model}": weights_hash(options.model)}
    payload |= {"rows": rows, "faster": statistics.median(faster), "low": min(faster), "high": max(faster)}
    print(f"written: {write('speed', payload, seed=options.seed)}")
    return 0


@torch.no_grad()
def pair(ways: dict[str, Any], x: torch.Tensor, ratio: float, seed: int, turned: bool) -> dict[str, Any]:
    """Seconds, calls and PSNR of both on one image, and the ratio of their seconds."""
    op = idm.BlockCS((x.shape[-2], x.shape[-1]), ratio, seed=seed)
    y = op.A(x)
    ways["idm"](y, op)  # warms up: the first call pays for choosing kernels
    found: dict[str, Any] = {"size": list(x.shape[-2:])}
    for name in sorted(ways, reverse=turned):
        began = time.perf_counter()
        answer = ways[name](y, op)
        found[name] = {"seconds": time.perf_counter() - began, "calls": answer.network_calls}
        found[name]["psnr"] = float(psnr(answer.image.clamp(0, 1), x))
    return found | {"faster": found["ddnm"]["seconds"] / found["idm"]["seconds"]}

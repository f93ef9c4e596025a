"""The average quality of a model or method over a folder of images, in the protocol of the IDM paper.

  idm evaluate --images set11 --ratio 0.1
  idm evaluate --images set11 --ratio 0.1 --method oamp
  idm evaluate --images set11 --ratio 0.3 --method ddnm --iterations 20 --json
  idm evaluate --images scans --ratio 0.1 --slices all

Luminance only; one Φ for all images and a fresh permutation for each; PSNR and SSIM of the clamped reconstruction.
Of medical scans (DICOM, NIfTI, fastMRI's HDF5), which are looked for in the folders below too, one slice each counts,
or all.
"""

import argparse
import sys

from idm_lib.cli.arguments import as_json
from idm_lib.cli.methods import add_method_arguments, build_method, chosen

SUMMARY = "the average quality of a model or method over a folder of images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of test images, or of medical scans")
    add_method_arguments(parser)
    parser.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation of noise on every measurement (default: 0)"
    )
    parser.add_argument(
        "--slices",
        choices=("middle", "all"),
        default="middle",
        help="of each scan: the middle one, or all but the nearly empty (default: middle)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: argparse.Namespace) -> int:
    """Evaluate; 1 if some image could not be read."""
    from tqdm import tqdm

    from idm_lib.evaluation import evaluate, load_test_set

    images, broken = load_test_set(options.images, options.slices)
    for sentence in broken:
        print(f"idm: {sentence}", file=sys.stderr)
    method = build_method(options)
    images = {name: image.to(options.device) for name, image in images.items()}
    with tqdm(total=len(images), unit="image", leave=False, disable=not sys.stderr.isatty()) as bar:
        report = evaluate(
            images, options.ratio, method, seed=options.seed, noise=options.noise, progress=lambda *_: bar.update()
        )
    name, weights = chosen(options)
    report = {"method": name, "model": weights} | report
    if options.json:
        print(as_json(report))
    else:
        _print_table(report)
    return 1 if broken else 0


def _print_table(report: dict) -> None:
    width = max(len(row["name"]) for row in report["per_image"])
    print(f"{report['method']} at ratio {report['ratio']:g} (in fact {report['true_ratio']:.2%})")
    for row in [*report["per_image"], {**report, "name": "average", "seconds": report["seconds_per_image"]}]:
        similarity = "     –" if row["ssim"] is None else f"{row['ssim']:.4f}"
        print(f"  {row['name']:<{width}}  {row['psnr']:6.2f} dB  SSIM {similarity}  {row['seconds']:6.2f} s")

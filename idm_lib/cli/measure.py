"""Measure a photo and keep the measurements, with the operator that took them, for a later reconstruction.

  idm measure photo.jpg --ratio 0.1 --out photo.npz
  idm measure photo.jpg --operator '{"operator": "SuperResolution", "factor": 4}' --out small.npz
  idm measure brain.nii.gz#80 --operator '{"operator": "MRI", "ratio": 0.25}' --out brain.npz
  idm reconstruct --measurements small.npz --method ddnm

Colour photos are measured channel by channel with one operator. The file is numpy's: y, and the operator as JSON.
Of a medical scan (DICOM, NIfTI, fastMRI's HDF5) one slice is taken: number 80, from 0, or the middle one without #80.
"""

import argparse

from idm_lib.cli.arguments import as_json, checked, ratio, seed
from idm_lib.cli.operators import add_operator_argument, operator_for_image

SUMMARY = "measure a photo and keep the measurements with their operator"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "image", metavar="IMAGE", help="an image file of any size and kind, or a slice of a scan, as scan.nii.gz#80"
    )
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="file to write")
    parser.add_argument(
        "--ratio", type=checked(ratio), help="measurements per pixel, in (0, 1] (default: the operator's, or 0.1)"
    )
    add_operator_argument(parser, "default: BlockCS; image_size is the photo's")
    parser.add_argument("--noise", type=float, help="standard deviation of noise on every measurement (default: 0)")
    parser.add_argument(
        "--seed",
        type=checked(seed),
        default=0,
        help="of the operator, if it names none, and of the noise (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(options: argparse.Namespace) -> int:
    """Measure and write."""
    from idm_lib.images import load_image
    from idm_lib.operators import save_measurements

    x = load_image(options.image, colour=True)  # (C, 1, H, W), C = 1 or 3
    op = operator_for_image(options, tuple(x.shape[-2:]))
    y = op.measure(x, seed=options.seed)  # (C, M)
    save_measurements(options.out, y, op)
    report = {
        "image": options.image,
        "size": list(x.shape[-2:]),
        "channels": len(x),
        "measurements": y.numel(),
        "operator": op.config(),
        "file": options.out,
    }
    if options.json:
        print(as_json(report))
    else:
        share = y.numel() / x.numel()
        print(
            f"{options.image}: {x.shape[-1]} × {x.shape[-2]}, {y.numel()} measurements by {type(op).__name__}, "
            f"{share:.2%} of its numbers → {options.out}"
        )
    return 0

"""Measure photos with a fraction of their numbers, and get them back.

  idm reconstruct photo.jpg --ratio 0.1
  idm reconstruct *.png --ratio 0.25 --method tv --out results
  idm reconstruct brain.nii.gz#80 --ratio 0.25
  idm reconstruct --measurements photo.npz

For each photo: NAME-reconstruction.png, NAME-comparison.png (photo, what the measurements show, reconstruction) and
NAME.json (PSNR, SSIM, and the PSNR predicted from measurements that were held back, with its 95 % interval). Colour
photos are measured channel by channel with one operator. A file that cannot be used is named and the rest is done.
Of a medical scan (DICOM, NIfTI, fastMRI's HDF5) one slice is taken: number 80, from 0, or the middle one without #80.

With --measurements, what was measured before, by idm measure or an instrument, is recovered: the same without photo,
PSNR, SSIM and comparison, and a prediction for BlockCS only. Or the k-space of a scanner, in fastMRI's HDF5:

  idm reconstruct --measurements knee.h5#12 --method tv
"""

import argparse
import re
import sys
from pathlib import Path

from idm_lib.cli.arguments import UsageError, as_json, checked, share
from idm_lib.cli.from_measurements import from_measurements
from idm_lib.cli.methods import add_method_arguments, build_method, chosen
from idm_lib.cli.operators import add_operator_argument
from idm_lib.cli.writing import predicted, write
from idm_lib.errors import InputError

SUMMARY = "measure photos with a fraction of their numbers, and get them back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files of any size and kind, or slices of scans, as scan.nii.gz#80",
    )
    parser.add_argument(
        "--measurements",
        metavar="FILE",
        help="recover these, in place of measuring images: .npz of idm measure, or an MRI scanner's .h5#SLICE",
    )
    add_operator_argument(parser, "with --measurements; default: as the file says")
    add_method_arguments(parser)
    parser.set_defaults(ratio=None)
    parser.add_argument(
        "--hold",
        type=checked(share),
        default=0.01,
        help="fraction of the measurements held back to judge by; 0 for none (default: 0.01)",
    )
    parser.add_argument("--out", default=".", help="folder to write to (default: this one)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(options: argparse.Namespace) -> int:
    """Reconstruct each image; 1 if any could not be."""
    _check_options(options)
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written to ({error.strerror}); give another --out.") from None
    if options.measurements:
        return from_measurements(options, out)
    options.ratio = options.ratio or 0.1
    method = build_method(options)
    paths = list(dict.fromkeys(Path(name) for name in options.images))
    reports, failed = [], 0
    for path, stem in zip(paths, _stems(paths), strict=True):
        try:
            _refuse_to_overwrite(paths, out, stem)
            report = _one(path, stem, out, method, options)
        except InputError as error:
            print(f"idm: {error}", file=sys.stderr)
            failed += 1
            continue
        reports.append(report)
        if not options.json:
            print(_sentence(report))
    if options.json:
        print(as_json(reports))
    return 1 if failed else 0


def _check_options(options: argparse.Namespace) -> None:
    if not options.images and not options.measurements:
        raise UsageError("the following arguments are required: IMAGE, or --measurements")
    if options.images and (options.measurements or options.operator):
        raise UsageError("IMAGE cannot go with --measurements or --operator; measure it by idm measure first")
    if options.measurements and options.ratio is not None:
        raise UsageError("--ratio cannot go with --measurements: they are what they are")


_OUTPUTS = ("-reconstruction.png", "-comparison.png", ".json")


def _stems(paths: list[Path]) -> list[str]:
    """The names to write under: without suffix, unless two inputs would then overwrite each other."""
    from idm_lib.medical import slice_stem

    stems: list[str] = []
    for path in paths:
        stem = slice_stem(path)
        if sum(slice_stem(other) == stem for other in paths) > 1:
            name = re.sub(r"#(\d+)$", r"-\1", path.name).replace(".", "-")
            stem = "-".join(part for part in (path.parent.name, name) if part)
        again = sum(name == stem or name.startswith(f"{stem}~") for name in stems)
        stems.append(f"{stem}~{again + 1}" if again else stem)
    return stems


def _refuse_to_overwrite(inputs: list[Path], out: Path, stem: str) -> None:
    """No result may take the place of an image that was given."""
    given = {path.resolve() for path in inputs}
    for ending in _OUTPUTS:
        if (out / f"{stem}{ending}").resolve() in given:
            raise InputError(f"{out / stem}{ending} is among the images given and would be lost; give another --out.")


def _one(path: Path, stem: str, out: Path, method: object, options: argparse.Namespace) -> dict[str, object]:
    from tqdm import tqdm

    from idm_lib.evaluation import psnr, reconstruct, ssim
    from idm_lib.images import load_image, save_image
    from idm_lib.operators import BlockCS

    x = load_image(path, colour=True).to(options.device)  # (C, 1, H, W), C = 1 or 3
    height, width = x.shape[-2:]
    op = BlockCS((height, width), options.ratio, seed=options.seed).to(options.device)
    hold = options.hold if op.measurements >= 8 else 0.0  # too few numbers to spare any
    with tqdm(desc=path.name, unit="it", leave=False, disable=not sys.stderr.isatty()) as bar:

        def tick(done: int, total: int, _: object) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = reconstruct(op.A(x), op, lambda y, kept: method(y, kept, tick), hold=hold, seed=options.seed)
    write(out, f"{stem}-reconstruction.png", lambda file: save_image(file, result.image))
    write(out, f"{stem}-comparison.png", lambda file: _comparison(file, x, op, result.image, options))
    report: dict[str, object] = {
        "image": str(path),
        "size": [height, width],
        "channels": len(x),
        "method": chosen(options)[0],
        "model": chosen(options)[1],
        "ratio": options.ratio,
        "true_ratio": op.true_ratio,
        "measurements": op.measurements * len(x),
        "psnr": _mean_psnr(psnr(result.image, x)),
        "ssim": float(ssim(result.image, x).mean()) if min(height, width) >= 7 else None,
        "predicted_psnr": predicted(result.predicted),
        "seconds": result.seconds,
        "network_calls": result.solution.network_calls,
        "operator": op.config(),
        "reconstruction": str(out / f"{stem}-reconstruction.png"),
        "comparison": str(out / f"{stem}-comparison.png"),
    }
    write(out, f"{stem}.json", lambda file: file.write_text(as_json(report) + "\n", encoding="utf-8"))
    return report


def _mean_psnr(channels: object) -> float | None:
    """PSNR of the mean error over the channels; None where nothing is wrong at all."""
    value = float(-10 * (10 ** (-channels / 10)).mean().log10())
    return value if value != float("inf") else None


def _comparison(file: Path, x: object, op: object, image: object, options: argparse.Namespace) -> None:
    """The photo, the pseudo-inverse of its measurements and the reconstruction, side by side."""
    from matplotlib.figure import Figure

    from idm_lib.evaluation import psnr

    shown = [("photo", x), ("what the measurements show, A⁺y", op.A_dagger(op.A(x))), (chosen(options)[0], image)]
    figure = Figure(figsize=(12, 4.6 * min(2.0, x.shape[-2] / x.shape[-1]) + 0.4), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(1, 3), shown, strict=True):
        pixels = picture.clamp(0, 1)[:, 0].permute(1, 2, 0).cpu().numpy()  # (H, W, C)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        value = None if picture is x else _mean_psnr(psnr(picture, x))
        axes.set_title(title if value is None else f"{title}: {value:.2f} dB")
        axes.set_axis_off()
    figure.savefig(file, dpi=100)


def _sentence(report: dict[str, object]) -> str:
    """One line for a person."""
    exact = "exact" if report["psnr"] is None else f"{report['psnr']:.2f} dB"
    line = (
        f"{report['image']}: {report['size'][1]} × {report['size'][0]} from {report['true_ratio']:.2%} of its numbers"
        f" by {report['method']}: {exact}"
    )
    predicted = report["predicted_psnr"]
    if predicted:
        line += (
            f"; predicted without the photo {predicted['psnr']:.1f} dB "
            f"({predicted['confidence']:.0%} interval {predicted['low']:.1f} to {predicted['high']:.1f})"
        )
    return f"{line}; {report['seconds']:.1f} s → {report['reconstruction']}"

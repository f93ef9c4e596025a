"""``idm reconstruct --measurements``: recover what was measured before, without the photo."""

import argparse
import sys
from pathlib import Path
from typing import Any

from idm_lib.cli.arguments import UsageError, as_json
from idm_lib.cli.methods import DEFAULT_MODEL, build_method, chosen
from idm_lib.cli.operators import measurements_of
from idm_lib.cli.writing import predicted, write


def from_measurements(options: argparse.Namespace, out: Path) -> int:
    """Recover the image of one file, write it and its report, and say so."""
    y, op = measurements_of(options)
    _check(y, op, options)
    method = build_method(options, type(op).__name__)
    report = _one(y.float().to(options.device), op.to(options.device), method, out, options)
    print(as_json(report) if options.json else _sentence(report))
    return 0


def _check(y: Any, op: Any, options: argparse.Namespace) -> None:
    from idm_lib.operators import BlockCS

    if len(y) not in (1, 3):
        raise UsageError(
            f"{options.measurements} has {len(y)} rows; expected 1, a grey image, or 3, the channels of a colour one"
        )
    if getattr(op, "channels", 1) != 1:
        raise UsageError(f"the {type(op).__name__} is for complex images; expected one for real ones")
    if not isinstance(op, BlockCS) and options.method is None and options.model is None:
        raise UsageError(
            f"{DEFAULT_MODEL} was trained for BlockCS; for a {type(op).__name__} give --method ddnm, tv or pinv, "
            "or a --model that was trained for it"
        )


def _one(y: Any, op: Any, method: Any, out: Path, options: argparse.Namespace) -> dict[str, object]:
    from tqdm import tqdm

    from idm_lib.evaluation import reconstruct
    from idm_lib.images import save_image
    from idm_lib.medical import slice_stem
    from idm_lib.operators import BlockCS

    stem = slice_stem(options.measurements)
    hold = options.hold if isinstance(op, BlockCS) and op.measurements >= 8 else 0.0  # it relies on random rows
    with tqdm(desc=stem, unit="it", leave=False, disable=not sys.stderr.isatty()) as bar:

        def tick(done: int, total: int, _: object) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = reconstruct(y, op, lambda y, kept: method(y, kept, tick), hold=hold, seed=options.seed)
    write(out, f"{stem}-reconstruction.png", lambda file: save_image(file, result.image))
    report: dict[str, object] = {
        "file": options.measurements,
        "size": list(op.image_size),
        "channels": len(y),
        "method": chosen(options)[0],
        "model": chosen(options)[1],
        "measurements": y.numel(),
        "predicted_psnr": predicted(result.predicted),
        "seconds": result.seconds,
        "network_calls": result.solution.network_calls,
        "operator": op.config(),
        "reconstruction": str(out / f"{stem}-reconstruction.png"),
    }
    write(out, f"{stem}.json", lambda file: file.write_text(as_json(report) + "\n", encoding="utf-8"))
    return report


def _sentence(report: dict[str, Any]) -> str:
    """One line for a person."""
    line = (
        f"{report['file']}: {report['size'][1]} × {report['size'][0]} from {report['measurements']} measurements "
        f"({report['operator']['operator']}) by {report['method']}"
    )
    predicted = report["predicted_psnr"]
    if predicted:
        line += (
            f"; predicted {predicted['psnr']:.1f} dB "
            f"({predicted['confidence']:.0%} interval {predicted['low']:.1f} to {predicted['high']:.1f})"
        )
    return f"{line}; {report['seconds']:.1f} s → {report['reconstruction']}"

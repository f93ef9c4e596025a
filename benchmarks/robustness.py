"""The fine-tuned model and OAMP beyond what either was set up for (``idm bench robustness --images DIR``).

Noise on the measurements, of which no method is told, and ratios apart from the three that all else is measured at.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

import idm_lib as idm
from benchmarks.provenance import provenance, read, write
from benchmarks.solvers import method_of, weights_hash
from idm_lib.evaluation import evaluate, load_test_set

METHODS = ("oamp", "idm:tiny")
NOISES = (2 / 255, 5 / 255, 10 / 255)
RATIOS = (0.1, 0.3, 0.5)
OTHER_RATIOS = (0.01, 0.04, 0.25, 0.6, 0.8)


def main(argv: Sequence[str] = ()) -> int:
    """Measure and write results/robustness.json."""
    parser = argparse.ArgumentParser(prog="idm bench robustness", description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder of test images (Set11 for the record)")
    parser.add_argument("--test-set", default="Set11", help="what the images are called")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--add", action="store_true", help="keep the record's rows of other methods")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    images, broken = load_test_set(options.images)
    if broken:
        raise idm.InputError(broken[0])
    prior = idm.Denoiser.from_pretrained("prior-tiny")
    methods = {name: method_of(name, prior)[2] for name in options.methods}
    record = {"test_set": options.test_set, "weights": weights_hash("prior-tiny"), "rows": []}
    record |= {f"weights of {m}": weights_hash(m[4:]) for m in methods if m.startswith("idm:")}
    if options.add:
        found = read("robustness")
        if found["weights"] != record["weights"] or found["provenance"]["seed"] != options.seed:
            raise idm.InputError("the record is of another prior or seed; measure it anew, without --add.")
        before = {"measured": found["provenance"]["date"]}  # of rows that do not say it themselves
        record["rows"] = [before | row for row in found["rows"] if row["method"] not in methods]
    measured = provenance(options.seed)["date"]
    cases = [(ratio, noise) for noise in NOISES for ratio in RATIOS] + [(ratio, 0.0) for ratio in OTHER_RATIOS]
    for ratio, noise in tqdm(cases, desc="robustness", unit="case"):
        for name, method in methods.items():
            report = evaluate(images, ratio, method, seed=options.seed, noise=noise)
            row = {"method": name, "ratio": ratio, "true_ratio": report["true_ratio"], "noise": noise}
            row["measured"] = measured
            row |= {k: report[k] for k in ("psnr", "ssim", "network_calls")}
            record["rows"].append(row | {"per_image": [r["psnr"] for r in report["per_image"]]})
            tqdm.write(f"{name:>10} {ratio:.0%}, noise {noise:.4f}: {row['psnr']:.2f} dB")
    print(f"written: {write('robustness', record, seed=options.seed)}")
    return 0

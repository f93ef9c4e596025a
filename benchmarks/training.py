"""Keep the record of a training run: its configuration and its log (``idm bench training --run DIR``)."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.provenance import write
from idm_lib.errors import InputError


def main(argv: Sequence[str] = ()) -> int:
    """Read a run's folder and write results/training-NAME.json."""
    parser = argparse.ArgumentParser(prog="idm bench training", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder that idm train wrote")
    parser.add_argument("--data", required=True, help="what the images are, in words: a path says nothing elsewhere")
    options = parser.parse_args(argv)
    try:
        config = yaml.safe_load((options.run / "config.yaml").read_text(encoding="utf-8"))
        log = [json.loads(line) for line in (options.run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{options.run} is not the folder of a training run ({error}); give one.") from None
    config["data"]["folder"] = options.data
    if Path(config.get("start") or "").is_absolute():  # a run's folder, of which the last two parts say enough
        config["start"] = "/".join(("runs", *Path(config["start"]).parts[-2:]))
    name = f"training-{config['name']}"
    print(f"written: {write(name, {'config': config, 'log': log}, seed=config['seed'])}")
    return 0

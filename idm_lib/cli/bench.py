"""Repeat a recorded measurement; the figures go to results/ with machine, versions, commit, seed and date.

  idm bench                 list the benchmarks
  idm bench operators       run one

The benchmarks live in the repository beside the library, so run this in a checkout.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

SUMMARY = "repeat a recorded measurement (in a checkout)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("name", nargs="?", help="which benchmark; without a name they are listed")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="the benchmark's own options")


def run(options: argparse.Namespace) -> int:
    """Run the benchmark of that name."""
    from idm_lib.errors import InputError

    folder = Path("benchmarks")
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    names = [name for name in names if name != "provenance"]
    if not names:
        raise InputError("there is no benchmarks/ here; run idm bench in a checkout of the repository.")
    if options.name is None:
        print("\n".join(names))
        return 0
    if options.name not in names:
        raise InputError(f"there is no benchmark {options.name!r}; choose from {', '.join(names)}.")
    sys.path.insert(0, str(Path.cwd()))
    return import_module(f"benchmarks.{options.name}").main(options.rest) or 0

"""Execute every chapter again, in order, and commit them: what ``make rerun`` runs.

``--record`` repeats first the benchmarks that need no files of yours, whose records the chapters read. The tree must
be clean, so that the commit holds nothing but what was executed. When a chapter fails nothing is committed; those
executed before it stay changed, for you to look at.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chapter import make
from execute import ChapterError
from repo import ROOT, chapters

from idm_lib.errors import InputError

WRITTEN = ("notebooks", "results", "README.md")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout


def rerun(names: list[str], execute: Callable[[str], str], root: Path = ROOT, record: bool = False) -> int:
    """Execute the chapters ``names`` and commit; return the exit code.

    Args:
        names: in the order to execute them.
        execute: makes one chapter and returns a line about it; ``ChapterError`` when it fails.
        root: the repository.
        record: repeat the benchmarks first.
    """
    changed = _git(root, "status", "--porcelain")
    if changed:
        print(f"Commit or stash first; the tree should be clean, and it has\n{changed.rstrip()}", file=sys.stderr)
        return 1
    if record and subprocess.run([sys.executable, "-m", "benchmarks"], cwd=root).returncode:
        print("A benchmark failed: nothing is committed.", file=sys.stderr)
        return 1
    for index, name in enumerate(names, 1):
        try:
            print(f"[{index:2d}/{len(names)}] {execute(name)}", flush=True)
        except (ChapterError, InputError) as error:
            print(f"{error}\nNothing is committed. `git checkout .` discards what was executed.", file=sys.stderr)
            return 1
    _git(root, "add", "--", *(part for part in WRITTEN if (root / part).exists()))
    if not _git(root, "diff", "--cached", "--name-only"):
        print("Nothing has changed.")
        return 0
    _git(root, "commit", "--quiet", "-m", f"{len(names)} chapters executed" + (", benchmarks recorded" * record))
    print(_git(root, "show", "--stat", "--format=%h %s", "HEAD").rstrip())
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="repeat the benchmarks first (hours)")
    args = parser.parse_args(argv)
    return rerun(chapters(), lambda name: make(name, None, "tiny"), record=args.record)


if __name__ == "__main__":
    sys.exit(main())

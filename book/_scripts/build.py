"""Build the book: what ``make html`` and ``make book`` run.

Everything happens in copies under ``_build``, so that the committed notebooks never change. ``--fresh`` executes
every chapter anew before Sphinx sees it. The exit code is not 0 when a cell, a cross-reference, an image or a
link inside the book fails.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from execute import ChapterError, execute
from pages import problems
from repo import NOTEBOOKS, ROOT, chapters
from source import duration

OUT = ROOT / "_build"
HTML = OUT / "html"
PARTS = ("_config.yml", "_toc.yml", "CHANGELOG.md", "CITATION.cff", "book", "results", "idm_lib")
UNREAD = ("__pycache__",)  # parts of them that no page is made from


def stage(target: Path, notebooks: Path) -> None:
    """Copy what Sphinx needs into ``target``: what the pages are made from, and ``notebooks``."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns(*UNREAD))
        elif source.is_file():
            shutil.copy2(source, target / part)
    (target / "notebooks").mkdir()
    for name in chapters():
        shutil.copy2(notebooks / f"{name}.ipynb", target / "notebooks")


def digest(folder: Path) -> str:
    """Return a fingerprint of every file below ``folder``."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def execute_one(path: Path) -> int:
    """Execute one staged chapter in place; return the exit code."""
    notebook = nbformat.read(path, as_version=4)
    budget = notebook.metadata["idm"]["budget"]
    try:
        took = execute(notebook, path.stem, path.parent)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    nbformat.write(notebook, path)
    print(f"{duration(took['seconds'])}, {took['gib']:.1f} GiB")
    for key, unit in (("seconds", "s"), ("gib", "GiB")):
        if took[key] > budget[key]:
            print(f"{path.stem} took {took[key]} {unit}; its budget is {budget[key]} {unit}", file=sys.stderr)
            return 1
    return 0


def execute_all(folder: Path, jobs: int) -> bool:
    """Execute every chapter in ``folder``, ``jobs`` at a time, and report each; return whether all succeeded."""
    names = chapters()
    done = 0
    failures = []

    def run(name: str) -> tuple[str, subprocess.CompletedProcess[str]]:
        command = [sys.executable, __file__, "--one", str(folder / f"{name}.ipynb")]
        threads = os.environ.get("OMP_NUM_THREADS", "1" if jobs > 1 else "2")
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        return name, subprocess.run(command, capture_output=True, text=True, env=environment)

    with ThreadPoolExecutor(jobs) as pool:
        for name, result in pool.map(run, names):
            done += 1
            words = result.stdout.strip() if result.returncode == 0 else "FAILED"
            print(f"  [{done:2d}/{len(names)}] {name:<32} {words}", flush=True)
            if result.returncode:
                failures.append(f"\n--- {name} ---\n{result.stdout}{result.stderr}")
    print("".join(failures), file=sys.stderr)
    return not failures


def sphinx(source: Path) -> bool:
    """Build ``source`` into ``_build/html`` with every warning an error; return whether it succeeded."""
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.rmtree(OUT / ".doctrees", ignore_errors=True)
    command = [
        str(Path(sys.executable).parent / "jupyter-book"),
        *("build", str(source), "--path-output", str(ROOT), "-W", "-n", "--keep-going", "--all"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"NO_COLOR": "1"})
    log = result.stdout + result.stderr
    (OUT / "sphinx.log").write_text(log, encoding="utf-8")
    warned = re.search(r"(WARNING|ERROR|CRITICAL)", log)
    if result.returncode or warned or not (HTML / "index.html").is_file():
        lines = [x for x in log.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|Error", x)]
        print("\n".join(lines) or log[-4000:], file=sys.stderr)
        return False
    return True


def build(fresh: bool, jobs: int) -> int:
    """Build the book; return the exit code. A build from committed outputs that is up to date is kept."""
    start = time.monotonic()
    source, mark = OUT / "source", HTML / ".digest"
    notebooks = NOTEBOOKS
    if fresh:
        stage(OUT / "fresh", NOTEBOOKS)
        print(f"Executing {len(chapters())} chapters at tier tiny, {jobs} at a time:", flush=True)
        if not execute_all(OUT / "fresh" / "notebooks", jobs):
            return 1
        notebooks = OUT / "fresh" / "notebooks"
    stage(source, notebooks)
    found = digest(source)
    if not fresh and mark.is_file() and mark.read_text() == found:
        print(f"{HTML}/index.html is up to date.")
        return 0
    print("Building the pages …", flush=True)
    if not sphinx(source):
        return 1
    wrong = problems(HTML)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    mark.write_text(found)
    print(f"Done in {duration(time.monotonic() - start)}: open _build/html/index.html")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="execute every chapter anew first")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="chapters executed at a time")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        return execute_one(args.one)
    OUT.mkdir(exist_ok=True)
    with (OUT / ".lock").open("w") as lock:  # two test workers may ask for the pages at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build(args.fresh, args.jobs)


if __name__ == "__main__":
    sys.exit(main())

"""Write, execute and measure one chapter: what ``make notebook`` runs."""

import argparse
import copy
import subprocess
import sys
from pathlib import Path

import nbformat
from execute import ChapterError, execute
from readme import update_readme
from repo import NOTEBOOKS, load
from source import parse, refresh, unparse

from idm_lib.errors import InputError


def make(name: str, scratch: Path | None, tier: str) -> str:
    """Assemble, execute and write the chapter; return a line that says what it took."""
    if scratch is None:
        notebook = load(name)
    else:
        notebook = parse(scratch.read_text(encoding="utf-8"), name)
        path = NOTEBOOKS / f"{name}.ipynb"
        if path.is_file():  # figures measured on another tier stay known
            notebook.metadata["idm"]["measured"] = load(name).metadata["idm"].get("measured", {})
    refresh(notebook, name)
    tidy(notebook)
    working = notebook if tier == "tiny" else copy.deepcopy(notebook)
    took = execute(working, name, NOTEBOOKS, tier)
    notebook.metadata["idm"].setdefault("measured", {})[tier] = took
    refresh(notebook, name)
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOKS / f"{name}.ipynb")
    update_readme()
    return f"{name}: {took['seconds']} s, {took['gib']} GiB, tier {tier}"


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Format the code cells as ``make lint`` wants them, with the line length of ``notebooks/ruff.toml``."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "idm" not in cell.metadata:
            command = ["ruff", "format", "--stdin-filename", str(NOTEBOOKS / "cell.py"), "-"]
            command[0] = str(Path(sys.executable).parent / "ruff")
            done = subprocess.run(command, input=cell.source, capture_output=True, text=True)
            if done.returncode:
                raise ChapterError(f"a code cell is not valid Python:\n{cell.source}\n{done.stderr}")
            cell.source = done.stdout.rstrip("\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the chapter, such as 01_measuring")
    parser.add_argument("--from", dest="scratch", type=Path, help="scratch file to assemble it from")
    parser.add_argument("--tier", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--source", action="store_true", help="print the chapter as a scratch file and stop")
    args = parser.parse_args(argv)
    try:
        print(unparse(load(args.name)) if args.source else make(args.name, args.scratch, args.tier), end="")
        if not args.source:
            print()
    except (ChapterError, InputError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

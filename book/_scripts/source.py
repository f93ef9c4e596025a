"""Between a scratch file, in which a chapter is pleasant to write, and its notebook, which is the only source kept.

A scratch file is Markdown with a YAML head. ``+++`` starts a new text cell, a fence `` ```{cell} tags `` is a
code cell, and ``{exercise} 2`` stands for the cells of the chapter's second exercise.
"""

import json
import re

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from repo import colab_url, missing_on_colab, release_tag, repository_url

from idm_lib.errors import InputError
from idm_lib.notebook.exercise import Exercise, find

FENCE = re.compile(r"^```\{cell\}\s*(.*)$")
EXERCISE = re.compile(r"^\{exercise\}\s*(\d+)\s*$")
HEAD_KEYS = {"question", "do", "learn", "need", "full", "budget"}


def parse(text: str, name: str) -> nbformat.NotebookNode:
    """Return the notebook that a scratch file describes, without the cells that depend on measurements.

    Args:
        text: The scratch file.
        name: The chapter's name, such as ``01_measuring``.

    Raises:
        InputError: If the head lacks a key or a fence is not closed.
    """
    match = re.match(r"^---\n(.*?)\n---\n", text, flags=re.S)
    head = yaml.safe_load(match[1]) if match else {}
    if set(head) != HEAD_KEYS:
        raise InputError(f"expected a head with {sorted(HEAD_KEYS)}, got {sorted(head)}; add what is missing")
    cells: list[nbformat.NotebookNode] = []
    lines: list[str] = []
    tags: list[str] | None = None

    def flush() -> None:
        body = "\n".join(lines).strip("\n")
        if body.strip():
            cell = new_markdown_cell(body) if tags is None else new_code_cell(body)
            if tags:
                cell.metadata["tags"] = list(tags)
            cells.append(cell)
        lines.clear()

    for line in text[match.end() :].splitlines():
        if tags is not None:
            if line == "```":
                flush()
                tags = None
            else:
                lines.append(line)
        elif opened := FENCE.match(line):
            flush()
            tags = opened[1].split()
        elif exercise := EXERCISE.match(line):
            flush()
            cells.extend(exercise_cells(f"{name[:2]}.{exercise[1]}"))
        elif line == "+++":
            flush()
        else:
            lines.append(line)
    if tags is not None:
        raise InputError("expected every ```{cell} fence to be closed, got the end of the file; close the last one")
    flush()
    notebook = new_notebook(cells=cells)
    notebook.metadata["idm"] = head
    return notebook


def unparse(notebook: nbformat.NotebookNode) -> str:
    """Return the scratch file of a notebook: the inverse of ``parse``."""
    plain = json.loads(json.dumps(notebook.metadata["idm"]))  # YAML knows no NotebookNode
    head = {key: value for key, value in plain.items() if key in HEAD_KEYS}
    parts = ["---\n" + yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=110) + "---"]
    previous = None
    for cell in notebook.cells:
        kind = cell.metadata.get("idm", "")
        if kind.startswith("exercise"):
            if kind.endswith(" task"):
                parts.append(f"{{exercise}} {kind.split()[1].split('.')[1]}")
        elif not kind and cell.cell_type == "code":
            tags = " ".join(cell.metadata.get("tags", []))
            parts.append(f"```{{cell}} {tags}".rstrip() + f"\n{cell.source}\n```")
        elif not kind:
            parts.append(("+++\n" if previous == "markdown" else "") + cell.source)
        previous = None if kind else cell.cell_type
    return "\n\n".join(parts) + "\n"


def exercise_cells(identifier: str) -> list[nbformat.NotebookNode]:
    """Return an exercise's cells: its task, the stub, the check, and the folded hint and worked solution."""
    exercise: Exercise = find(identifier)

    def own(cell: nbformat.NotebookNode, part: str) -> nbformat.NotebookNode:
        cell.metadata["idm"] = f"exercise {identifier} {part}"
        return cell

    fold = (
        f"<details><summary>Hint</summary>\n\n{exercise.hint}\n\n</details>\n"
        f"<details><summary>Worked solution</summary>\n\n```python\n{exercise.solution_source}\n```\n\n</details>"
    )
    check = f'nb.check("{identifier}", {exercise.function_name})'
    return [
        own(new_markdown_cell(f"### Exercise {identifier}: {exercise.title}\n\n{exercise.task.strip()}"), "task"),
        own(new_code_cell(f"{exercise.stub_source}\n\n\n{check}"), "stub"),
        own(new_markdown_cell(fold), "solution"),
    ]


def duration(seconds: float) -> str:
    """Return a measured time as a reader would say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def header(notebook: nbformat.NotebookNode, name: str) -> str:
    """Return the header: what the reader will do, learn and need, and the measured time and memory of each tier."""
    head = notebook.metadata["idm"]
    lines = []
    for title, key in (("You will do", "do"), ("You will learn", "learn"), ("You need", "need")):
        lines += [f"**{title}**", "", *(f"- {item}" for item in head[key]), ""]
    lines += ["| Tier | Time | Memory | Measured on |", "|---|---|---|---|"]
    measured = head.get("measured", {})
    for tier in ("tiny", "full") if head["full"] else ("tiny",):
        if tier in measured:
            m = measured[tier]
            lines.append(f"| {tier} | {duration(m['seconds'])} | {m['gib']:.1f} GiB | {m['machine']}, {m['date']} |")
        else:
            lines.append(f"| {tier} | not yet measured | not yet measured | |")
    url = colab_url(name)
    if url:
        lines += ["", f"[Open this chapter in Colab]({url})"]
    return "\n".join(lines)


def install_cell() -> str | None:
    """Return the cell that installs the library on Colab and does nothing elsewhere; None without an address.

    It installs the release, and nothing that a runtime has: torch, numpy and the rest stay as they are.
    """
    url = repository_url()
    if url is None:
        return None
    # Each with --no-deps: pip may bring what it is told to bring, and touch nothing else.
    packages = " ".join(["./idm", *(f"'{requirement}'" for requirement in missing_on_colab())])
    return (
        "import os\n\n"
        'if "COLAB_RELEASE_TAG" in os.environ:  # on Colab; elsewhere the library is installed already\n'
        "    %cd -q /content\n"
        '    if not os.path.isdir("idm"):\n'
        f"        !git clone --quiet --depth 1 --branch {release_tag()} {url} idm\n"
        f"        !pip install --quiet --no-deps {packages}\n"
        "    %cd -q idm/notebooks"
    )


def refresh(notebook: nbformat.NotebookNode, name: str) -> None:
    """Bring everything generated up to date: header, install cell, exercises, metadata and cell identifiers."""
    executed = {(cell.metadata.get("idm"), cell.source): cell for cell in notebook.cells}  # keeps its outputs
    kept: list[nbformat.NotebookNode] = []
    for cell in notebook.cells:
        kind = cell.metadata.get("idm", "")
        if kind in ("header", "install"):
            continue
        if kind.startswith("exercise"):
            if kind.endswith(" task"):
                fresh = exercise_cells(kind.split()[1])
                kept.extend(executed.get((new.metadata["idm"], new.source), new) for new in fresh)
            continue
        kept.append(cell)
    generated = [new_markdown_cell(header(notebook, name), metadata={"idm": "header"})]
    install = install_cell()
    if install:
        new = new_code_cell(install, metadata={"idm": "install", "tags": ["remove-cell"]})
        generated.append(executed.get(("install", install), new))
    notebook.cells = [*kept[:1], *generated, *kept[1:]]
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:03d}"
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    if notebook.metadata["idm"]["full"]:
        notebook.metadata["accelerator"] = "GPU"
        notebook.metadata["colab"] = {"gpuType": "T4"}  # the one that costs nothing
    notebook.nbformat, notebook.nbformat_minor = 4, 5

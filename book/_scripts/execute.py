"""Execute a chapter from a fresh kernel, and measure it."""

import datetime
import os
import platform
import re
import subprocess
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from repo import ROOT

CELL_TIMEOUT = 600
QUIET = {  # progress bars and warnings would end up in the committed outputs
    "IDM_TIER": "tiny",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}


class ChapterError(Exception):
    """A cell failed; the message names the chapter, the cell and the error."""


def machine() -> str:
    """Return the machine in a few words: cores, processor, GPU."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        model = re.sub(r"\s+", " ", found[1]) if found else model
    words = f"{os.cpu_count()} × {model}"
    try:
        gpu = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True
        )
        words = f"{gpu.stdout.splitlines()[0]}, {words}" if gpu.returncode == 0 and gpu.stdout else words
    except FileNotFoundError:
        pass
    return words


def commit() -> str:
    """Return the commit that is checked out."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _peak_gib(client: NotebookClient) -> float:
    """Return the kernel's peak resident memory; 0 where the system does not tell."""
    status = Path(f"/proc/{client.km.provisioner.pid}/status")
    if not status.is_file():
        return 0.0
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**20


def execute(notebook: nbformat.NotebookNode, name: str, folder: Path, tier: str = "tiny") -> dict:
    """Execute ``notebook`` in place, in ``folder``, and return what it took.

    Returns:
        {"seconds", "gib", "machine", "date", "commit"}: wall time with the kernel's start, peak resident memory.

    Raises:
        ChapterError: If a cell fails. The outputs so far stay in ``notebook``.
    """
    os.environ.update(QUIET | {"IDM_TIER": tier})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=40"],  # its notice about local sockets is not for the reader
    )
    start = time.monotonic()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
                raise ChapterError(f"{name}, cell {index}:\n{cell.source}\n\n{text[-2500:]}") from None
        gib = _peak_gib(client)
    _settle(notebook)
    return {
        "seconds": round(time.monotonic() - start, 1),
        "gib": round(gib, 2),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
    }


def _settle(notebook: nbformat.NotebookNode) -> None:
    """Number the code cells 1, 2, 3 …, whatever else the kernel was asked, and refuse warnings in the outputs."""
    count = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
            if output.output_type == "stream" and output.name == "stderr":
                raise ChapterError(f"cell {count} wrote to stderr, which readers would see:\n{output.text[:800]}")

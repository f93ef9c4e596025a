"""Where a recorded number comes from: machine, versions, commit, seed, date; and the one way to write it.

Every benchmark is a module with ``main(argv) -> int`` and writes ``results/NAME.json`` through :func:`write`.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "diffusers", "numpy", "accelerate", "scikit-image", "memcnn", "revlib")


def provenance(seed: int | None) -> dict[str, Any]:
    """Return the facts a reader needs to repeat a measurement; ``seed`` is None where nothing is random."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seed": seed,
        "command": " ".join(Path(word).name if Path(word).is_absolute() else word for word in sys.argv),
        "machine": _machine(),
        "cores_available": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def write(name: str, payload: dict[str, Any], *, seed: int | None = None, folder: Path | None = None) -> Path:
    """Write ``payload`` with its provenance to ``results/NAME.json``, whole or not at all; return the path."""
    target = (folder or ROOT / "results") / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"provenance": provenance(seed), **payload}, indent=2, allow_nan=False)
    partial = target.with_suffix(".json.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(target)  # atomic: a reader never sees half a file
    return target


def read(name: str, *, folder: Path | None = None) -> dict[str, Any]:
    """Return what :func:`write` recorded under ``name``."""
    return json.loads(((folder or ROOT / "results") / f"{name}.json").read_text(encoding="utf-8"))


def _commit() -> str | None:
    """The commit, with ``+changes`` when tracked library or benchmark files differ from it; None outside git."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "idm_lib", "benchmarks"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def _machine() -> str:
    """The GPU where there is one, the CPU, and the system."""
    gpu = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join([*gpu, _cpu_name(), f"{platform.system()} {platform.machine()}"])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

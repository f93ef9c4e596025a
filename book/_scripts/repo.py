"""Where things are in the repository, and what the book's configuration says."""

import re
import tomllib
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"


def config() -> dict:
    """Return ``_config.yml``."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def repository_url() -> str | None:
    """Return the repository's one address, from ``_config.yml``; None while it is unset."""
    return (config().get("repository") or {}).get("url") or None


def colab_url(name: str) -> str | None:
    """Return the address that opens a chapter in Colab, or None while the repository has no address."""
    url = repository_url()
    match = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)/?", url or "")
    if match is None:
        return None
    branch = config()["repository"].get("branch", "main")
    return f"https://colab.research.google.com/github/{match[1]}/blob/{branch}/notebooks/{name}.ipynb"


def release_tag() -> str:
    """Return the tag of the release that Colab installs: ``v`` and the package's version."""
    return f"v{_project()['version']}"


def missing_on_colab() -> list[str]:
    """Return what the package needs, training included, and a Colab runtime lacks, as requirements."""
    there = {
        re.split(r"[=<>~! ]", line, maxsplit=1)[0].lower().replace("_", "-")
        for line in (ROOT / "book" / "_scripts" / "colab.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    needed = [*_project()["dependencies"], *_project()["optional-dependencies"]["train"]]
    return [r for r in needed if re.split(r"[=<>~! \[]", r, maxsplit=1)[0].lower().replace("_", "-") not in there]


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def chapters() -> list[str]:
    """Return the names of the chapters in the order of ``_toc.yml``, such as ``01_measuring``."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "file" in node:
                files.append(node["file"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(toc)
    return [Path(f).stem for f in files if f.startswith("notebooks/")]


def load(name: str) -> nbformat.NotebookNode:
    """Return a chapter's notebook."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def chapter_title(notebook: nbformat.NotebookNode) -> str:
    """Return the first heading."""
    return re.search(r"^# (.+)$", notebook.cells[0].source, flags=re.M)[1]

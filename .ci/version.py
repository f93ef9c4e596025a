"""Refuse a release tag that is not the version, or of which the changelog is silent: ``.ci/version.py v0.1.0``."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def complaint(tag: str, root: Path = ROOT) -> str | None:
    """Return what is wrong with a tag, or None: it is ``v`` and the version, and the changelog has that version."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if tag != f"v{version}":
        return f"the tag is {tag} and pyproject.toml says {version}; tag v{version}, or change the version first"
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)}$", changes, flags=re.M):
        return f"CHANGELOG.md has no heading {version}; say there what users will notice"
    return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python .ci/version.py TAG")
    sys.exit(complaint(sys.argv[1]))

"""Print the oldest releases that pyproject.toml allows, as constraints for pip.

``make install DEPENDENCIES=oldest`` installs them. It needs nothing but Python, since it runs before anything is
installed.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def oldest(project: dict) -> dict[str, str]:
    """Return name → lowest version of every requirement, extras included.

    Args:
        project: the ``[project]`` table of a pyproject.toml.

    Raises:
        ValueError: a requirement has no lower bound, or two of one package differ.
    """
    requirements = [*project["dependencies"]]
    for extra in project.get("optional-dependencies", {}).values():
        requirements += extra
    found: dict[str, str] = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?\s*>=\s*([\w.]+)\s*(?:,.*)?", requirement.split(";")[0].strip())
        if match is None:
            raise ValueError(f"expected NAME>=VERSION in pyproject.toml; got {requirement!r}")
        name, version = match.groups()
        if found.setdefault(name, version) != version:
            raise ValueError(f"{name} has two lower bounds in pyproject.toml, {found[name]} and {version}")
    return found


if __name__ == "__main__":
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(f"{name}=={version}" for name, version in sorted(oldest(table).items())))

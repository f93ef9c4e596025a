"""Recorded results: numbers that were measured elsewhere, with where, when and from what."""

import json
import os
from html import escape
from pathlib import Path
from typing import Any

from idm_lib.errors import InputError
from idm_lib.notebook.html import STYLE


class Recorded(dict):
    """A recorded result; displaying it shows its provenance."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        super().__init__(values)
        self.name = name

    @property
    def provenance(self) -> str:
        """Machine, commit, date, versions and seed of the last run in one line; and of each run before it, if any.

        A commit that ends in ``+changes`` is explained: it was run with changes that were not yet committed.
        """
        runs = [self.get("provenance", {}), *self.get("sources", [])]
        changed = any(str(run.get("commit", "")).endswith("+changes") for run in runs)
        note = ". (+changes: with changes that were not yet committed)" if changed else ""
        if len(runs) == 1:
            return self._line(runs[0]) + note
        earlier = [{k: run[k] for k in ("date", "commit", "command") if k in run} for run in runs[1:]]
        return f"Added last: {self._line(runs[0])}. Earlier: {'. '.join(map(self._line, earlier))}{note}"

    @staticmethod
    def _line(known: dict[str, Any]) -> str:
        """One run's provenance."""
        parts = []
        for key, value in known.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items())
            parts.append(f"{key}: {value}")
        return "; ".join(parts)

    def _repr_html_(self) -> str:
        words = f"Recorded in results/{self.name}.json. {self.provenance}"
        return f'{STYLE}<p class="nbf-note">{escape(words)}</p>'

    def __repr__(self) -> str:
        return f"Recorded in results/{self.name}.json. {self.provenance}"


def results_folder() -> Path:
    """Return the folder of recorded results: ``IDM_RESULTS``, else ``results/`` here, above, or by the package.

    Raises:
        InputError: If there is none.
    """
    asked = os.environ.get("IDM_RESULTS")
    here, package = Path.cwd().resolve(), Path(__file__).resolve()
    places = [Path(asked)] if asked else [p / "results" for p in (here, *here.parents, *package.parents)]
    for place in places:
        if place.is_dir() and any(place.glob("*.json")):
            return place
    raise InputError(
        "expected a results/ folder with recorded figures, found none here or above; "
        "run the chapter inside a clone of the repository or set IDM_RESULTS"
    )


def recorded(name: str) -> Recorded:
    """Return the recorded result ``results/<name>.json``.

    Args:
        name: File name without ".json".

    Raises:
        InputError: If there is no such record, or it lacks its provenance.
    """
    folder = results_folder()
    path = folder / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.json")))
        raise InputError(f"expected one of the recorded results {names}, got {name!r}; record it first")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or "provenance" not in values:
        raise InputError(f"expected {path.name} to hold an object with 'provenance'; record it again")
    return Recorded(values, name)

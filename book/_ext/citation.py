"""Sphinx directive ``citation``: BibTeX entries for the book and the article it teaches, from ``CITATION.cff``."""

from pathlib import Path
from typing import Any, ClassVar

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


def _authors(people: list[dict[str, str]]) -> str:
    """Family name first, joined as BibTeX wants it; a group's name is kept in one piece."""
    return " and ".join(
        f"{person['family-names']}, {person['given-names']}" if "family-names" in person else f"{{{person['name']}}}"
        for person in people
    )


def _entry(kind: str, key: str, fields: dict[str, Any]) -> str:
    width = max(map(len, fields))
    lines = [f"  {name:<{width}} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def bibtex(citation: dict[str, Any]) -> str:
    """Return the entries of a ``CITATION.cff``: the software, then the articles that it refers to."""
    entries = [
        _entry(
            "software",
            "idm_lib",
            {
                "author": _authors(citation["authors"]),
                "title": f"{{{citation['title']}}}",
                "version": citation["version"],
                "year": str(citation.get("date-released", ""))[:4],
                "url": citation.get("repository-code", ""),
            },
        )
    ]
    for work in citation.get("references", []):
        fields = {
            "author": _authors(work["authors"]),
            "title": f"{{{work['title']}}}",
            "journal": work["journal"],
            "volume": work.get("volume", ""),
            "number": work.get("issue", ""),
            "year": work["year"],
            "doi": work["doi"],
        }
        entries.append(_entry("article", f"{work['authors'][0]['family-names'].lower()}{work['year']}", fields))
    return "\n\n".join(entries)


class Citation(Directive):
    """The entries, in a box with a button that copies them."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return one literal block."""
        env = self.state.document.settings.env
        path = Path(env.srcdir, "CITATION.cff")
        env.note_dependency(str(path))
        text = bibtex(yaml.safe_load(path.read_text(encoding="utf-8")))
        block = nodes.literal_block(text, text)
        block["language"] = "bibtex"
        return [block]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("citation", Citation)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

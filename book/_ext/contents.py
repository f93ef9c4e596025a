"""Chapters: directive ``chapters``, a card for each from the notebooks' own metadata; and their numbers in titles."""

import json
import re
import sys
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_scripts"))
from source import duration


class Chapters(Directive):
    """List the chapters of ``_toc.yml`` with the question that each answers and what it costs to run."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return one raw node; links are relative to the page in ``book/``."""
        env = self.state.document.settings.env
        cards = []
        for path in sorted(Path(env.srcdir, "notebooks").glob("*.ipynb")):
            env.note_dependency(str(path))
            notebook = json.loads(path.read_text(encoding="utf-8"))
            head = notebook["metadata"]["idm"]
            title = re.search(r"^# (.+)$", "".join(notebook["cells"][0]["source"]), flags=re.M)
            tiny = head["measured"]["tiny"]
            cards.append(
                f'<a href="../notebooks/{path.stem}.html"><span class="n">{path.stem[:2]}</span>'
                f'<span class="t">{escape(title[1] if title else path.stem)}</span>'
                f"<span>{escape(head['question'])}</span>"
                f'<span class="c">{duration(max(1, tiny["seconds"]))} and {tiny["gib"]:.1f} GiB on a CPU</span></a>'
            )
        return [nodes.raw("", f'<div class="chapter-cards">{"".join(cards)}</div>', format="html")]


def number_title(app: Sphinx, doctree: nodes.document) -> None:
    """Put a chapter's number, that of its file, before its title: on its page, in the sidebar, in previous and next.

    The notebook itself has no number in its heading, so that a chapter is numbered in one place.
    """
    match = re.fullmatch(r"notebooks/(\d\d)_\w+", app.env.docname)
    if match and (title := next(iter(doctree.findall(nodes.title)), None)) is not None:
        title.insert(0, nodes.Text(f"{match[1]} · "))


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave Thebe out: the book has no live kernels, and its script is declared twice, which is an error."""
    kept = [
        s for s in context.get("script_files", []) if "thebe" not in f"{s} {getattr(s, 'attributes', '')}".lower()
    ]
    context["script_files"] = kept


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the two hooks."""
    app.add_directive("chapters", Chapters)
    app.connect("doctree-read", number_title, priority=100)  # before Sphinx collects the titles
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}

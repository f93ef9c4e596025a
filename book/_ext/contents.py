"""Sphinx directive ``chapters``: cards for every chapter, made from the notebooks' own metadata."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


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
                f'<span class="c">{max(1, round(tiny["seconds"]))} s and {tiny["gib"]:.1f} GiB on a CPU</span></a>'
            )
        return [nodes.raw("", f'<div class="chapter-cards">{"".join(cards)}</div>', format="html")]


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave Thebe out: the book has no live kernels, and its script is declared twice, which is an error."""
    kept = [
        s for s in context.get("script_files", []) if "thebe" not in f"{s} {getattr(s, 'attributes', '')}".lower()
    ]
    context["script_files"] = kept


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("chapters", Chapters)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

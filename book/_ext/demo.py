"""Sphinx directive ``demo``: the model, running in the page.

The scripts are exported from the shipped weights while the book is built. Only the page with the directive asks for
them, and for the large ones only when its reader does.
"""

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

PREFIX = "demo-"  # of the scripts' names in _static


class Demo(Directive):
    """The demonstration, its style and its script."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Export the model, write its scripts, return the page's part."""
        from idm_lib.export import fragment, scripts, style
        from idm_lib.notebook.demo import demo_content

        env = self.state.document.settings.env
        exported, photos = demo_content()
        folder = Path(env.app.outdir, "_static")
        folder.mkdir(parents=True, exist_ok=True)
        parts = scripts(exported)
        for name, text in parts.items():
            (folder / f"{PREFIX}{name}.js").write_text(text, encoding="utf-8")
        base = f"{'../' * env.docname.count('/')}_static/{PREFIX}"
        content = fragment(exported, photos, base, sum(map(len, parts.values())) / 1e6)
        html = f'<style>\n{style()}</style>\n{content}<script defer src="{base}demo.js"></script>\n'
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("demo", Demo)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}

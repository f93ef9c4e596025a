"""What the theme and Sphinx write and screen readers stumble on, put right in the finished pages.

Each rule names what it mends; ``tests/book/test_accessibility.py`` finds what is left.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

RULES = (
    # The search field says "Search Ctrl+K"; a label that says less hides the rest from whoever speaks to the page.
    (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
    # Three icons, of which one is shown: the button has a label, so none of them should be read out.
    (r'(<i class="theme-switch[^>]*?)\s+title="[^"]*">', r'\1 aria-hidden="true">'),
    # A folded cell says what is in it; a label that says less hides that.
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # The lines of a long signature are no list of definitions.
    (r"<dl>(?=\s*<dd><em class=\"sig-param\">)", '<dl role="none">'),
    # Roles that are deprecated, in a list whose items have none.
    (r' role="list" class="citation-list"', ' class="citation-list"'),
    (r' role="doc-biblioentry"', ""),
)

# The theme finds what scrolls, and lets arrow keys in, before the fonts have made it wider; so it looks again.
AGAIN = "document.fonts.ready.then(() => dispatchEvent(new Event('resize')))"


def mended(page: str) -> str:
    """Return a page's HTML after all rules."""
    for pattern, replacement in RULES:
        page = re.sub(pattern, replacement, page)
    return page


def mend(app: Sphinx, failure: Exception | None) -> None:
    """Mend every page that was built."""
    if failure is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            if mended(text) != text:
                path.write_text(mended(text), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it, last of all."""
    app.add_js_file(None, body=AGAIN)
    app.connect("build-finished", mend, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

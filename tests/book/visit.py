"""A page opened in Chromium, and everything that goes wrong on it."""

from pathlib import Path

OWN_COLOURS = {"genindex.html", "search.html"}  # pages of the theme's own, without prose; they follow no theme


def pages(html: Path) -> list[Path]:
    """Every page of the book; the one that only forwards to the first is left out."""
    return [
        p
        for p in sorted(html.rglob("*.html"))
        if "_static" not in p.relative_to(html).parts and p.name != "index.html"
    ]


class Visit:
    """One opened page and everything that went wrong on it."""

    def __init__(self, context, path) -> None:
        self.wrong: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(f"console: {m.text}"))
        self.page.on("pageerror", lambda e: self.wrong.append(f"script: {e}"))
        self.page.on("requestfailed", lambda r: self.wrong.append(f"failed: {r.url}"))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri(), wait_until="load")
        self.page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise")
        self.page.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise }")

    def _asked(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"asked the network: {request.url}")

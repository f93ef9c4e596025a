"""Plots, tables and sentences with computed numbers."""

import hashlib
import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from idm_lib.notebook.html import Html, check_words, emit, wrap
from idm_lib.notebook.style import INK


def plots(rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None, **options: Any) -> Any:
    """Return ``(figure, axes)`` in the book's width.

    Args:
        rows: Rows of axes.
        columns: Columns of axes.
        size: Inches; None is 6.8 wide and 3 high for each row.
        options: Passed on to ``matplotlib.figure.Figure.subplots``.
    """
    from matplotlib.figure import Figure  # not pyplot: a figure that nobody else can show a second time

    fig = Figure(figsize=size or (6.8, 3.0 * rows), layout="constrained")
    return fig, fig.subplots(rows, columns, **options)


def to_svg(fig: Any, alt: str) -> str:
    """Return a matplotlib figure as one ``<svg>`` whose ink is the page's text colour and whose ids are its own."""
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.S)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace(INK, "currentColor")
    own = "f" + hashlib.sha1(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{own}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{own}-", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    size = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    assert size is not None  # matplotlib always writes it
    width = float(size.group(1)) * 96 / 72
    head = f'<svg role="img" aria-label="{escape(alt)}" style="max-width:{width:.0f}px"'
    return re.sub(r'<svg( xmlns:xlink="[^"]*")? width="[^"]*" height="[^"]*"', rf"{head}\g<1>", svg, count=1)


def figure(fig: Any, *, caption: str, alt: str) -> None:
    """Show a matplotlib figure as inline SVG, legible in light and dark pages.

    Args:
        fig: A figure, from ``plots`` for instance.
        caption: What the reader should see.
        alt: What is in the figure, for who cannot see it.
    """
    check_words(caption, alt)
    emit(wrap(f'<div class="nbf-svg">{to_svg(fig, alt)}</div>', caption, alt, "plot"))


def table(rows: Sequence[Sequence[Any]], header: Sequence[str], *, caption: str) -> None:
    """Show a table; a column whose every entry starts like a number, or is none, is set flush right.

    A hyphen before a number becomes a minus; dashes, or nothing, stand for a number that is not there.

    Args:
        rows: Cells, as strings or numbers; format numbers before.
        header: Column heads.
        caption: What the reader should see.
    """
    rows, header = [[_minus(str(cell)) for cell in row] for row in rows], [str(cell) for cell in header]
    number, none = re.compile(r"^[−+-]?[\d.]"), re.compile(r"^[–/ ]*$")
    columns = [[row[column] for row in rows if not none.match(row[column])] for column in range(len(header))]
    right = [bool(entries) and all(map(number.match, entries)) for entries in columns]

    def one(cell: str, flush: bool, head: bool) -> str:
        kind = ' scope="col"' if head and cell else ""  # a corner that is empty heads nothing
        tag = "th" if kind else "td"
        return f"<{tag}{kind}{' class=n' if flush else ''}>{escape(cell)}</{tag}>"

    def cells(row: Sequence[str], head: bool = False) -> str:
        return "".join(one(cell, flush, head) for cell, flush in zip(row, right, strict=True))

    head = f"<thead><tr>{cells(header, head=True)}</tr></thead>"
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    text = "\n".join(" | ".join(row) for row in [header, *rows])
    # Where it is wider than the page it scrolls, by arrow keys too, and then it needs a name.
    scroll = f'<div class="nbf-scroll" tabindex="0" role="group" aria-label="{escape(caption)}">'
    grid = f"{scroll}<table>{head}<tbody>{body}</tbody></table></div>"
    html = wrap(grid, caption, "", "table").html
    emit(Html(html, f"{caption}\n{text}"))


def say(text: str) -> None:
    """Show a sentence whose numbers were computed, set like the text around it.

    Args:
        text: Markdown, usually an f-string. A hyphen before a number becomes a minus.
    """
    text = _minus(text)
    emit(Html(text, text), "text/markdown")


def _minus(text: str) -> str:
    """With a minus before each negative number; the hyphens of dates, names and 1e-6 stay."""
    return re.sub(r"(?<![\w.)\]`−-])-(?=\.?\d)", "−", text)

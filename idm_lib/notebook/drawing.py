"""Line drawings as SVG: a few shapes, text in the page's own colour, and sizes that a phone can show."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from idm_lib.notebook.style import COLORS

#: Units across a drawing. A phone shows about as many CSS pixels, so a size in units is nearly one in pixels there.
WIDTH = 340
#: Of letters; nothing smaller is drawn, subscripts apart.
TEXT, SMALL = 15.0, 13.5

#: One colour for each part that the book's diagrams share. Shape or label always says the same.
STREAM_1, STREAM_2 = COLORS["blue"], COLORS["green"]
BODY, MEASURED = COLORS["orange"], COLORS["purple"]
GRADIENT, INSIDE = COLORS["gold"], COLORS["grey"]

_LOW, _DIGITS = "₀₁₂₃₄₅₆₇₈₉", "0123456789"
_TO_DIGITS, _TO_LOW = str.maketrans(_LOW, _DIGITS), str.maketrans(_DIGITS, _LOW)


@dataclass(frozen=True)
class Frame:
    """One picture of a stepped diagram, with what it says.

    Attributes:
        svg: the drawing, from :meth:`Canvas.svg`.
        title: a few words.
        words: one to three sentences, plain text: what happens here, and why.
    """

    svg: str
    title: str
    words: str


def typeset(text: str, tag: str = "sub") -> str:
    """Return ``text`` for HTML (``tag="sub"``) or SVG (``tag="tspan"``), its subscript digits set by the page.

    Few fonts have the characters ₁ and ₂, so they would come from another font and stand out.
    """

    def lowered(match: re.Match[str]) -> str:
        digits = match[0].translate(_TO_DIGITS)
        if tag == "sub":
            return f"<sub>{digits}</sub>"
        # What follows must go up again; at the end of a text an empty span does no harm.
        return f'<tspan dy="3.5" font-size="80%">{digits}</tspan><tspan dy="-3.5">\u200b</tspan>'

    return re.sub(r"[₀-₉]+", lowered, escape(text))


class Canvas:
    """A drawing in the making: shapes are added in the order in which they cover each other.

    Args:
        height: in units, of which there are :data:`WIDTH` across.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self.parts: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, size: float = TEXT, anchor: str = "middle", bold: bool = False
    ) -> None:
        """Write ``words`` with their middle line at ``y``; ``anchor`` is start, middle or end."""
        weight = ' font-weight="700"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y + 0.35 * size:.1f}" font-size="{size:g}" text-anchor="{anchor}"{weight}>'
            f"{typeset(words, 'tspan')}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        color: str,
        words: Sequence[str] | str = (),
        *,
        state: str = "there",
        round_by: float = 5,
        size: float = TEXT,
    ) -> None:
        """Draw a box round the point (x, y), with lines of text in its middle.

        Args:
            x, y: its centre.
            width, height: its size.
            color: of its edge and, tinted, of its ground.
            words: a line or several.
            state: ``there``; ``new``, with a thick edge; ``gone``, dashed and empty; ``full``, without
                a tint; or ``plain``, a mere frame.
            round_by: radius of the corners.
            size: of the letters.
        """
        ground = {"there": 0.16, "new": 0.3, "gone": 0.0, "full": 1.0, "plain": 0.0}[state]
        edge = 'stroke-width="1.8"'
        if state == "new":
            edge = 'stroke-width="3.6"'
        elif state == "gone":
            edge = 'stroke-width="1.4" stroke-dasharray="4 3.5"'
        self.parts.append(
            f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}" '
            f'rx="{round_by:g}" fill="{color}" fill-opacity="{ground}" stroke="{color}" {edge}/>'
        )
        lines = [words] if isinstance(words, str) else list(words)
        for i, line in enumerate(lines):
            self.text(x, y + (i - (len(lines) - 1) / 2) * 1.2 * size, line, size=size)

    def arrow(
        self,
        points: Sequence[tuple[float, float]],
        color: str,
        *,
        width: float = 2.2,
        dashed: bool = False,
        head: bool = True,
    ) -> None:
        """Draw a line through ``points``, with a head at its end."""
        (xa, ya), (xb, yb) = points[-2:]
        long, wide = 9.0, 4.6
        angle = math.atan2(yb - ya, xb - xa)
        c, s = math.cos(angle), math.sin(angle)
        line = [*points[:-1], (xb - 0.7 * long * c, yb - 0.7 * long * s)] if head else points
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}" '
            f'stroke-linejoin="round"{dashes}/>'
        )
        if head:
            corners = [(0.0, 0.0), (-long, wide), (-long, -wide)]
            tip = " ".join(f"{xb + c * u - s * w:.1f},{yb + s * u + c * w:.1f}" for u, w in corners)
            self.parts.append(f'<polygon points="{tip}" fill="{color}"/>')

    def circle(self, x: float, y: float, radius: float, color: str, words: str = "", *, state: str = "there") -> None:
        """Draw a circle with a word in it; see :meth:`box`."""
        self.box(x, y, 2 * radius, 2 * radius, color, words, state=state, round_by=radius)

    def svg(self, alt: str) -> str:
        """Return the drawing; ``alt`` says what is in it, for who cannot see it."""
        return (
            f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {WIDTH} {self.height:g}" '
            f'fill="currentColor" font-family="inherit">{"".join(self.parts)}</svg>'
        )


def number(value: float) -> str:
    """Return a number as it is set in text: three digits, a real minus sign."""
    return f"{value + 0.0:.3g}".replace("-", "−")


def low(index: int) -> str:
    """Return a whole number in subscript digits, which :func:`typeset` understands."""
    return str(index).translate(_TO_LOW)


def many(count: int, thing: str) -> str:
    """Return ``1 inside`` or ``3 insides``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"

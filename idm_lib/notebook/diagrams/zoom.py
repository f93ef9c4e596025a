"""Draws a chain of steps, one of its steps opened, and one run of that step opened."""

from collections.abc import Sequence

from idm_lib.errors import InputError
from idm_lib.notebook.diagrams.levels import Part, State
from idm_lib.notebook.drawing import BODY, GRADIENT, SMALL, STREAM_1, STREAM_2, Canvas
from idm_lib.notebook.drawing import INSIDE as GREY

_STEP, _ENCODER, _DECODER = 46, 175, 283  # centres of the columns
_TOP, _DEEP = 52, 250  # where the steps begin, and how long their column is
_X, _Y, _WIDTH, _HEIGHT = 229, 170, 216, 280  # the opened step
_STRIP = 352  # the opened run
_MOST_STEPS, _MOST_LINKS, _MOST_ROWS = 4, 11, 8


class Zoom:
    """Draws a model's two levels, any number of times.

    Args:
        steps: T.
        encoder, decoder: the U-Net's parts, in the order of evaluation.

    Raises:
        InputError: there are too many for the drawing.
    """

    def __init__(self, steps: int, encoder: Sequence[Part], decoder: Sequence[Part]) -> None:
        rows = max(len(encoder), len(decoder))
        if steps > _MOST_STEPS or rows > _MOST_ROWS:
            raise InputError(
                f"expected at most {_MOST_STEPS} steps and {_MOST_ROWS} parts on either side of the U-Net, got "
                f"{steps} and {rows}; draw a smaller model"
            )
        self.steps, self.encoder, self.decoder = steps, encoder, decoder
        self.longest = min(max(part.links for part in (*encoder, *decoder)), _MOST_LINKS)
        self.pitch, self.row = _DEEP / steps, (_HEIGHT - 46) / rows

    def draw(
        self,
        title: str,
        state: State,
        lines: Sequence[str],
        opened: int = 0,
        run: str = "",
        counted: bool = True,
        notes: Sequence[str] = (),
    ) -> Canvas:
        """Return a drawing.

        Args:
            title: in its corner.
            state: what is kept.
            lines: text below, two at most.
            opened: the link whose U-Net is shown, 0 for none.
            run: which way one run is opened below: ``forward``, ``backward``, or not at all.
            counted: whether each step says how often it has run.
            notes: a few words beside each step.
        """
        canvas = Canvas(430)
        canvas.text(4, 14, title, anchor="start", bold=True)
        for place in range(self.steps + 1):
            state_of = "there" if place in state.images else "gone"
            word = "x̂" if place == self.steps else "image"
            canvas.box(
                _STEP, _TOP + place * self.pitch, 60, 22, STREAM_1, word, state=state_of, round_by=11, size=SMALL
            )
        for link in range(1, self.steps + 1):
            words = [f"step {self.steps + 1 - link}", *([f"run {state.runs[link - 1]} ×"] if counted else [])]
            edge = "new" if link == opened else "there"
            canvas.box(_STEP, self._height(link), 84, 40, BODY, words, state=edge, size=SMALL)
        for link, note in enumerate(notes, 1):
            canvas.text(104, self._height(link), note, anchor="start")
        if opened:
            self._unet(canvas, opened, opened in state.ends)
        if run:
            self._run(canvas, run == "backward")
        for row, line in enumerate(lines):
            canvas.text(4, 396 + 22 * row, line, anchor="start", bold=True)
        return canvas

    def _height(self, link: int) -> float:
        return _TOP + (link - 0.5) * self.pitch

    def _unet(self, canvas: Canvas, opened: int, pairs: bool) -> None:
        left, top, bottom = _X - _WIDTH / 2, _Y - _HEIGHT / 2, _Y + _HEIGHT / 2
        for end in (top + 4, bottom - 4):
            canvas.arrow([(_STEP + 42, self._height(opened)), (left, end)], GREY, width=1.2, head=False)
        canvas.box(_X, _Y, _WIDTH, _HEIGHT, GREY, state="plain", round_by=6)
        canvas.text(_X, top + 16, f"inside step {self.steps + 1 - opened}: a U-Net", size=SMALL)
        down = [top + 30 + self.row * (i + 0.5) for i in range(len(self.encoder))]
        up = [bottom - 16 - self.row * (i + 0.5) for i in range(len(self.decoder))]
        for x, parts, heights in ((_ENCODER, self.encoder, down), (_DECODER, self.decoder, up)):
            for part, y in zip(parts, heights, strict=True):
                self._part(canvas, x, y, part, pairs)
        way = [(_ENCODER, down[-1] + 12), (_ENCODER, bottom - 7), (_DECODER, bottom - 7), (_DECODER, up[0] + 10)]
        canvas.arrow(way, GREY, width=1.6)

    def _part(self, canvas: Canvas, x: float, y: float, part: Part, pairs: bool) -> None:
        """One part; where it holds something for the backward pass, what it holds."""
        words = f"{part.links} links" if part.links else part.name
        canvas.box(x, y, 96, 22, BODY if part.links else GREY, round_by=3)
        canvas.text(x - 42, y, words, anchor="start", size=SMALL)
        if part.links:
            for offset, color in ((26, STREAM_1), (39, STREAM_2)):
                canvas.box(x + offset, y, 11, 11, color, state="full" if pairs else "gone", round_by=5.5)
        elif part.checkpointed:
            canvas.box(x + 39, y, 10, 10, GREY, state="full" if pairs else "gone", round_by=1)

    def _run(self, canvas: Canvas, back: bool) -> None:
        """Below: a run of links between a pair and a pair; backwards, the last link is being undone."""
        first, last, n = 64, 276, self.longest
        pitch = (last - first) / n
        words = f"inside a run of {n} links{': the last is undone first' if back else ''}"
        canvas.text(4, _STRIP - 26, words, anchor="start", size=SMALL)
        if back:
            canvas.box(last - pitch / 2, _STRIP, pitch + 1, 34, GREY, state="new", round_by=3)
        for k in range(n):
            canvas.box(first + (k + 0.5) * pitch, _STRIP, min(pitch - 5, 26), 24, BODY, round_by=3)
        for x, there in ((first - 28, not back), (last + 28, True)):
            for dy, color in ((-8.5, STREAM_1), (8.5, STREAM_2)):
                canvas.box(x, _STRIP + dy, 15, 15, color, state="full" if there else "gone", round_by=7.5)
        for start, end in ((first - 18, first - 3), (last + 4, last + 19)):
            ends = [(start, _STRIP), (end, _STRIP)]
            canvas.arrow(ends[::-1] if back else ends, GRADIENT if back else GREY)

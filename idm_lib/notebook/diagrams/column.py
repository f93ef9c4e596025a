"""The sampling chain as a column: measurements on top, steps below each other, and beside each what it keeps."""

from collections.abc import Collection

from idm_lib.errors import InputError
from idm_lib.models import InvertibleDiffusion
from idm_lib.notebook.diagrams.plan import GRADIENTS, INSIDE, STREAMS, Held
from idm_lib.notebook.drawing import BODY, GRADIENT, MEASURED, SMALL, STREAM_1, STREAM_2, Canvas, low, many
from idm_lib.notebook.drawing import INSIDE as GREY

_MIDDLE, _RAIL, _SIDE = 100, 12, 262  # of the steps; of the measurements' way; of what stands beside
_FIRST, _PITCH = 84, 76
_MOST = 6


class Column:
    """Draws the chain of a model, any number of times.

    Args:
        model: of one to six steps; more do not fit.

    Raises:
        InputError: the model has more steps.
    """

    def __init__(self, model: InvertibleDiffusion) -> None:
        self.steps = int(model.config.steps)
        if self.steps > _MOST:
            raise InputError(f"expected a model of at most {_MOST} steps, got {self.steps}; draw a shorter chain")
        self.paired = bool(model.config.wired_steps)
        self.end = _FIRST + self.steps * _PITCH

    def name(self, link: int) -> str:
        """The step that a link is: the last is step 1."""
        return f"step {self.steps + 1 - link}"

    def label(self, one: Held) -> str:
        """What an image between the steps is called: a stream, or by the step it goes into."""
        if self.paired:
            return one.kind[0] + low(int(one.kind[1]))
        if one.kind == "g1":
            return "g"
        return f"x{low(self.steps - one.at)}" if one.at < self.steps else "x̂"

    def draw(
        self,
        title: str,
        held: Collection[Held],
        seen: Collection[Held],
        now: tuple[int, ...] = (),
        upward: bool = False,
    ) -> Canvas:
        """Return a drawing of the chain.

        Args:
            title: in its corner.
            held: what is in memory; all other images are drawn dashed.
            seen: what of it was there in the frame before.
            now: the links that are at work.
            upward: whether a gradient goes back through them.
        """
        canvas = Canvas(self.end + 50)
        canvas.text(4, 16, title, anchor="start", bold=True)
        canvas.text(336, 16, "dashed: not kept", anchor="end", size=SMALL)
        self._measurements(canvas, bool(now) and not upward)
        for link in range(1, self.steps + 1):
            y = self.height(link)
            canvas.arrow([(_MIDDLE, y - 26), (_MIDDLE, y - 16)], GREY)
            canvas.arrow([(_MIDDLE, y + 16), (_MIDDLE, y + 27)], GREY)
            canvas.box(_MIDDLE, y, 116, 32, BODY, self.name(link), state="new" if link in now else "there")
            if upward and link in now:
                canvas.arrow([(_MIDDLE + 68, y + 24), (_MIDDLE + 68, y - 24)], GRADIENT, width=3)
        for place in range(self.steps + 1):
            for kind in STREAMS + GRADIENTS:
                self._image(canvas, Held(kind, place), held, seen)
        return canvas

    def height(self, link: int) -> float:
        """Where the box of a step is, downwards."""
        return _FIRST + (link - 0.5) * _PITCH

    def insides(self, canvas: Canvas, held: Collection[Held], seen: Collection[Held]) -> None:
        """Beside the steps: the insides that are in memory."""
        for link in range(1, self.steps + 1):
            one = Held(INSIDE, link)
            words = f"inside of {self.name(link)}" if one in held else ""
            state = "gone" if one not in held else "there" if one in seen else "new"
            canvas.box(_SIDE, self.height(link), 142, 44, GREY, words, state=state, size=SMALL)

    def counts(self, canvas: Canvas, **found: int) -> str:
        """Below: how many things of each kind are in memory, as ``inside=3``; return the words."""
        words = f"in memory: {', '.join(many(count, kind) for kind, count in found.items())}"
        canvas.text(4, self.end + 36, words, anchor="start", bold=True)
        return words

    def _measurements(self, canvas: Canvas, used: bool) -> None:
        canvas.box(_MIDDLE, 44, 86, 30, MEASURED, "y and A", round_by=3)
        canvas.arrow([(_MIDDLE, 59), (_MIDDLE, 71)], MEASURED)
        width = 2.2 if used else 1.4
        canvas.arrow(
            [(_MIDDLE - 43, 44), (_RAIL, 44), (_RAIL, self.height(self.steps))], MEASURED, width=width, head=False
        )
        for link in range(1, self.steps + 1):
            canvas.arrow([(_RAIL, self.height(link)), (_MIDDLE - 58, self.height(link))], MEASURED, width=width)

    def _image(self, canvas: Canvas, one: Held, held: Collection[Held], seen: Collection[Held]) -> None:
        second, gradient = one.kind in ("x2", "g2"), one.kind in GRADIENTS
        if (second and not self.paired) or (gradient and one not in held):
            return
        x = _MIDDLE + ((17 if second else -17) if self.paired else 0)
        if gradient:
            x = _MIDDLE + 51 + (34 if second else 0) if self.paired else _MIDDLE + 36
        color = GRADIENT if gradient else STREAM_2 if second else STREAM_1
        state = "gone" if one not in held else "there" if one in seen else "new"
        canvas.box(x, _FIRST + one.at * _PITCH, 32, 24, color, self.label(one), state=state, round_by=12, size=14)

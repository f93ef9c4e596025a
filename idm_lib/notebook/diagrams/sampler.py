"""The sampling chain as one network: used, and then trained by plain backpropagation."""

from idm_lib.models import InvertibleDiffusion
from idm_lib.notebook.diagrams.column import Column
from idm_lib.notebook.diagrams.plan import INSIDE, Held, Moment, most, training_step
from idm_lib.notebook.drawing import BODY, MEASURED, SMALL, Canvas, Frame, low, many
from idm_lib.notebook.drawing import INSIDE as GREY

#: By schedule: how the first image is made, and the parts of a step in order.
_STARTS = {"paper": "√ᾱ{t}·Aᵀy"}
_PARTS = {
    "paper": (("U-Net: noise ε", BODY), ("take ε out", GREY), ("agree with y", MEASURED), ("some ε back in", GREY)),
    "state-evolution": (("agree with y", MEASURED), ("how noisy is it?", GREY), ("U-Net: denoise", BODY)),
    "levels": (("agree with y", MEASURED), ("U-Net: denoise", BODY)),
}


def sampler(model: InvertibleDiffusion) -> list[Frame]:
    """Return the frames of a chain whose steps carry one image.

    Args:
        model: says how many steps there are, and what a step consists of.

    Raises:
        InputError: the model has too many steps to draw.
    """
    column = Column(model)
    column.paired = False
    steps, schedule = column.steps, str(model.config.schedule)
    plain = {(m.doing, m.link): m for m in training_step(steps, "store")}
    frames = [
        Frame(
            _used(column, schedule, 0),
            "Measurements make a first image.",
            f"A photograph was measured: y = A x. The chain begins with a rough image, x{low(steps)}, made of y.",
        ),
        Frame(
            _used(column, schedule, 1),
            f"Step {steps}: a better image.",
            f"The U-Net looks at the image, and y is read again. Out comes x{low(steps - 1)}. The image before may "
            "be forgotten.",
        ),
        Frame(
            _used(column, schedule, steps),
            "So to the result.",
            "Every step holds the same U-Net. There are no dice: the same y gives the same x̂. So the whole chain is "
            f"one network of {many(steps, 'layer')}. Between two of them, one image is in memory.",
        ),
    ]
    seen = plain["start", 0]
    for key, title, words in (
        (
            ("forward", 1),
            "Now train it: the forward pass.",
            "Backpropagation will need the inside of each step again: the input of every layer of the U-Net. So all "
            "of it is kept.",
        ),
        (
            ("forward", steps),
            "Every step keeps its inside.",
            f"The weights are shared, what happens inside is not: {many(steps, 'step')}, {many(steps, 'inside')}.",
        ),
        (
            ("differentiate", steps),
            "The gradient goes back through step 1.",
            "The loss compares x̂ with the photograph. Its gradient g uses the inside of the last step, which may "
            "then be dropped.",
        ),
        (
            ("differentiate", 1),
            "One gradient reaches every step.",
            f"But at the peak {many(most(list(plain.values()), INSIDE), 'inside')} had to be in memory; with 10 "
            f"steps it would be {most(training_step(10, 'store'), INSIDE)}. Memory grows with T.",
        ),
    ):
        frames.append(Frame(_trained(column, plain[key], seen), title, words))
        seen = plain[key]
    return frames


def _used(column: Column, schedule: str, done: int) -> str:
    """The chain in use with ``done`` steps behind it; beside it, what a step consists of."""
    held = [Held("x1", done)]
    now = {0: (), 1: (1,)}.get(done, tuple(range(2, column.steps + 1)))
    canvas = column.draw("using it", held, (), now)
    if done == 0:
        start = _STARTS.get(schedule, "from y").format(t=low(column.steps))
        canvas.text(262, 84, f"x{low(column.steps)} = {start}" if schedule in _STARTS else start)
    else:
        _inside(canvas, column, schedule)
    column.counts(canvas, image=len(held))
    return canvas.svg(
        f"The chain from top to bottom: y and A, an image, {column.steps} steps with an image after each. A way "
        f"leads from y into every step. In memory: {column.label(held[0])}."
    )


def _inside(canvas: Canvas, column: Column, schedule: str) -> None:
    parts = _PARTS[schedule]
    top = column.height(1) - 16
    canvas.text(262, top - 24, "inside each step", size=SMALL, bold=True)
    for row, (words, color) in enumerate(parts):
        y = top + 6 + 48 * row
        canvas.box(262, y, 128, 30, color, words, size=14, round_by=3)
        if row:
            canvas.arrow([(262, y - 33), (262, y - 16)], GREY)


def _trained(column: Column, moment: Moment, seen: Moment) -> str:
    back = moment.doing == "differentiate"
    held = [o for o in moment.held if o.kind not in ("x2", "g2")]
    last = column.steps
    now = {("forward", 1): (1,), ("differentiate", last): (last,)}.get((moment.doing, moment.link))
    if now is None:
        now = tuple(range(2, last + 1)) if moment.doing == "forward" else tuple(range(1, last))
    canvas = column.draw("training: ↑ back" if back else "training: ↓ forward", held, seen.held, now, back)
    canvas.text(262, 44, "kept in memory", size=SMALL, bold=True)
    column.insides(canvas, moment.held, seen.held)
    words = column.counts(canvas, inside=moment.count(INSIDE))
    return canvas.svg(f"The chain of {last} steps, {'going back' if back else 'going forward'}; {words}, of {last}.")

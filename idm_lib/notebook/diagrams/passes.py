"""A chain's training step with inverted links: what is computed when, and what is in memory meanwhile."""

from idm_lib.errors import InputError
from idm_lib.notebook.diagrams.plan import GRADIENTS, INSIDE, STREAMS, Held, Moment, most, training_step
from idm_lib.notebook.drawing import BODY, GRADIENT, STREAM_1, STREAM_2, Canvas, Frame, low, many
from idm_lib.notebook.drawing import INSIDE as GREY
from idm_lib.reversible import ReversibleChain

_ROWS = {"x1": 62, "x2": 94, "g1": 138, "g2": 170}
_COLORS = {"x1": STREAM_1, "x2": STREAM_2, "g1": GRADIENT, "g2": GRADIENT, INSIDE: GREY}
_NAMES = {"x1": "x₁", "x2": "x₂", "g1": "g₁", "g2": "g₂"}
_FIRST, _LAST = 22, 318  # centres of the first and the last pair


def passes(chain: ReversibleChain) -> list[Frame]:
    """Return the frames of one training step of ``chain`` with ``memory="invert"``.

    Args:
        chain: of two to five links; more do not fit into the drawing.

    Raises:
        InputError: the chain is too short or too long.
    """
    n = len(chain.links)
    if not 2 <= n <= 5:
        raise InputError(f"expected a chain of two to five links, got {n}; draw a shorter one")
    moments = training_step(n, "invert")
    plain = training_step(n, "store")
    last, before = f"F{low(n)}", f"F{low(n - 1)}"
    deep = 16 * n
    told = {
        ("start", 0): ("A pair of streams goes in.", "Nothing else is in memory yet."),
        ("forward", 1): (
            "The first link, and forget.",
            "F₁ runs without a graph: what is computed inside it is dropped at once. So is the pair before the link. "
            "Plain backpropagation would keep the inside.",
        ),
        ("forward", n): (
            "So to the last link.",
            f"Only the last pair is left. Plain backpropagation has kept {n} insides by now, one for every link.",
        ),
        ("loss", 0): ("The loss sends gradients.", "g₁ and g₂ say how the loss changes with the last pair."),
        ("evaluate", n): (
            f"Evaluate {last} once more, with a graph.",
            f"The lower stream, y₂, is what {last} was given, x₁. Move it back up and run {last} on it: now one "
            "inside is in memory.",
        ),
        ("rebuild", n): (
            "Rebuild the other stream.",
            f"The same result of {last}, taken out of y₁, gives x₂. The pair before the link is back, and y₁ can go.",
        ),
        ("differentiate", n): (
            "Differentiate, and forget again.",
            f"The gradients pass through {last}; those of its weights are done (∇). Then its inside is dropped.",
        ),
        ("rebuild", n - 1): (
            "The same for the link before.",
            f"Evaluate {before}, rebuild its input. Again one inside is in memory, and no more.",
        ),
        ("differentiate", 1): (
            "Back at the start.",
            f"At no moment was there more than {many(most(moments, INSIDE), 'inside')}; plain backpropagation held "
            f"up to {most(plain, INSIDE)}. With {deep} links: {most(training_step(deep, 'invert'), INSIDE)} against "
            f"{most(training_step(deep, 'store'), INSIDE)}.",
        ),
    }
    frames, seen = [], moments[0]
    for moment in moments:
        if (moment.doing, moment.link) in told:
            title, words = told[moment.doing, moment.link]
            frames.append(Frame(_draw(n, moment, seen, _plain_then(moment, plain)), title, words))
            seen = moment
    return frames


def _plain_then(moment: Moment, plain: list[Moment]) -> Moment:
    """Plain backpropagation at the same time: while a link is being undone, it has yet to pass it."""
    want = (moment.doing, moment.link)
    if moment.doing in ("evaluate", "rebuild"):
        last = moment.link == max(one.link for one in plain)
        want = ("loss", 0) if last else ("differentiate", moment.link + 1)
    return next(one for one in plain if (one.doing, one.link) == want)


def _draw(n: int, moment: Moment, seen: Moment, plain: Moment) -> str:
    canvas = Canvas(296)
    back = moment.doing in ("loss", "evaluate", "rebuild", "differentiate")
    canvas.text(4, 16, "← backward" if back else "forward →", anchor="start", bold=True)
    canvas.text(336, 16, "filled: in memory", anchor="end", size=13.5)
    pitch = (_LAST - _FIRST) / n

    def state(one: Held) -> str:
        return "gone" if one not in moment.held else "there" if one in seen.held else "new"

    _way(canvas, moment, pitch)
    done = n + 1 - moment.link if moment.doing == "differentiate" else n - moment.link if moment.link and back else 0
    for k in range(1, n + 1):
        x = _FIRST + (k - 0.5) * pitch
        inside = Held(INSIDE, k)
        if inside in moment.held:
            canvas.box(x, 78, 36, 62, GREY, state=state(inside), round_by=3)
        canvas.box(x, 78, 27, 36, BODY, f"F{low(k)}", state="there", round_by=3)
        if k > n - done:
            canvas.box(x, 154, 22, 22, GRADIENT, "∇", round_by=3)
    for place in range(n + 1):
        for kind in (*STREAMS, *GRADIENTS):
            one = Held(kind, place)
            if kind in STREAMS or one in moment.held:
                canvas.box(
                    _FIRST + place * pitch,
                    _ROWS[kind],
                    31,
                    26,
                    _COLORS[kind],
                    _name(one, moment),
                    state=state(one),
                    round_by=13,
                )
    _shelf(canvas, moment, plain)
    kept = ", ".join("the inside of " * (one.kind == INSIDE) + _name(one, moment) for one in moment.held)
    return canvas.svg(
        f"A row of {n} links and the pairs of streams between them. In memory: {kept}. "
        f"Insides here: {moment.count(INSIDE)}; with plain backpropagation: {plain.count(INSIDE)}."
    )


def _way(canvas: Canvas, moment: Moment, pitch: float) -> None:
    """Above the links: which of them this frame is about, and in which direction."""
    forward = moment.doing == "forward"
    if moment.link:
        first, last = _FIRST + (moment.link - 1) * pitch, _FIRST + moment.link * pitch
        canvas.arrow(
            [(first, 38), (last, 38)] if forward else [(last, 38), (first, 38)], BODY if forward else GRADIENT
        )


def _name(one: Held, moment: Moment) -> str:
    """Behind the link that is being undone, the streams are called y."""
    name = _NAMES.get(one.kind, f"F{low(one.at)}")
    undone = moment.doing in ("evaluate", "rebuild") and one.at == moment.link
    return name.replace("x", "y") if undone else name


def _shelf(canvas: Canvas, moment: Moment, plain: Moment) -> None:
    """Below: everything that is in memory, counted, and the insides that plain backpropagation would hold."""
    canvas.arrow([(4, 196), (336, 196)], GREY, width=1, head=False)
    for row, (words, held) in enumerate(
        (
            ("streams, gradients", [o for o in moment.held if o.kind != INSIDE]),
            ("insides of bodies", [o for o in moment.held if o.kind == INSIDE]),
            ("insides, if all stored", [o for o in plain.held if o.kind == INSIDE]),
        )
    ):
        y = 216 + 31 * row
        canvas.text(4, y, words, anchor="start", size=14)
        for i, one in enumerate(held):
            label = _name(one, moment)
            canvas.box(
                164 + 33 * i, y, 29, 24, _COLORS[one.kind], label, round_by=12 if one.kind != INSIDE else 3, size=14
            )
        canvas.text(336, y, str(len(held)), anchor="end", bold=True)

"""A wired coupling, there and back: which stream goes where, what is known, computed again, and solved for."""

import torch

from idm_lib.errors import InputError
from idm_lib.notebook.drawing import BODY, INSIDE, STREAM_1, STREAM_2, Canvas, Frame, number
from idm_lib.reversible import WiredCoupling

_TOP, _LOW = 84, 194  # the two rails
_LEFT, _RIGHT = 40, 300  # centres of what goes in and of what comes out
_F, _PLUS = 131, 224
_COLORS = {"x₁": STREAM_1, "x₂": STREAM_2, "y₁": STREAM_2, "y₂": STREAM_1}
_PLACES = {"x₁": (_LEFT, _TOP), "x₂": (_LEFT, _LOW), "y₁": (_RIGHT, _TOP), "y₂": (_RIGHT, _LOW)}


def coupling(link: WiredCoupling, x1: float, x2: float) -> list[Frame]:
    """Return the frames of one link that is run on two numbers, and inverted.

    Args:
        link: its body must take a tensor of shape (1,).
        x1, x2: what goes in. All other numbers in the drawing are what the link makes of them.

    Raises:
        InputError: the link is of another kind, or its inverse does not return x1 and x2.
    """
    if not isinstance(link, WiredCoupling):
        raise InputError(f"expected a WiredCoupling, got {type(link).__name__}; the diagram draws its v")
    a, v = link.weights()
    if abs(a + v - 1) > 1e-6:
        raise InputError(f"expected shares 1 − v and v, got {a:.4g} and {v:.4g}; the diagram draws one number, v")
    given = torch.tensor([[x1], [x2]], dtype=torch.float64)
    with torch.no_grad():
        f = float(link.body(given[0]))
        y1, y2 = link(*given)
        back = torch.stack(link.inverse(y1, y2))
    if not torch.allclose(back, given, atol=1e-6):
        raise InputError(
            f"expected the inverse to return {x1} and {x2}, got {back.flatten().tolist()}; give a body whose answer "
            f"depends on its input alone"
        )
    values = {"x₁": x1, "x₂": x2, "y₁": float(y1), "y₂": float(y2), "F": f}
    n = {name: number(value) for name, value in values.items()}
    share, rest = number(a), number(v)
    mixed = f"{share}·{_signed(n['F'])} + {rest}·{_signed(n['x₂'])}"
    return [
        Frame(
            _draw(values, "x₁ x₂", "F", "forward", (f"F(x₁) = {n['F']}", f"v = {rest}, so 1 − v = {share}")),
            "Two streams go in; F reads one.",
            "The body F is given x₁ only. It may be any network, also one that cannot be undone.",
        ),
        Frame(
            _draw(values, "x₁ x₂ F", "y₁", "forward", ("y₁ = (1−v)·F(x₁) + v·x₂", f"= {mixed} = {n['y₁']}")),
            "Mix.",
            "y₁ is a share 1 − v of what F made of x₁, and a share v of x₂.",
        ),
        Frame(
            _draw(values, "x₁ x₂ F y₁", "y₂", "forward", ("y₂ = x₁", f"= {n['y₂']}")),
            "Swap: keep the key.",
            "x₁ moves to the other rail as it is, and is called y₂. That costs nothing, and it is the key to the way "
            "back.",
        ),
        Frame(
            _draw(values, "", "y₁ y₂", "backward", ("known: y₁, y₂ and the body F",)),
            "Now go back. What is known?",
            "Only y₁ and y₂. Everything on the left was thrown away, and F(x₁) with it. Nothing of it was stored.",
        ),
        Frame(
            _draw(values, "y₁ y₂", "x₁", "backward", ("x₁ = y₂", f"= {n['x₁']}")),
            "Read off x₁.",
            "It lies there: y₂ is x₁.",
        ),
        Frame(
            _draw(values, "y₁ y₂ x₁", "F", "backward", (f"F(x₁) = {n['F']}, once more",)),
            "Compute F(x₁) again.",
            "The same input gives the same answer. F runs in its usual direction: it is never inverted.",
        ),
        Frame(
            _draw(
                values,
                "y₁ y₂ x₁ F",
                "x₂",
                "backward",
                ("x₂ = (y₁ − (1−v)·F(x₁)) / v", f"= ({n['y₁']} − {share}·{_signed(n['F'])}) / {rest} = {n['x₂']}"),
            ),
            "Solve for x₂.",
            "Take F's share out of y₁. What is left is v·x₂, so divide by v. Both streams are back.",
        ),
        Frame(
            _draw(
                values | {"y₁": f, "v": 0.0},
                "x₁ x₂ F y₁ y₂",
                "",
                "cut",
                (f"v = 0:  y₁ = F(x₁) = {n['F']}, whatever x₂ is", "x₂ = (y₁ − F(x₁)) / 0"),
            ),
            "Why v must not be 0.",
            "With v = 0 nothing of x₂ reaches y₁. Then no inverse can find it, and the formula divides by zero. With "
            "a small v a little gets through, and dividing by v magnifies every rounding error with it.",
        ),
    ]


def _draw(values: dict[str, float], there: str, new: str, way: str, lines: tuple[str, ...]) -> str:
    """One picture: what is ``there``, what is ``new`` in this frame; all else is not known."""
    known, fresh = set(there.split()), set(new.split())
    canvas = Canvas(270)
    forward = way != "backward"
    title = {"forward": "forward →", "backward": "← backward", "cut": "forward, with v = 0"}[way]
    canvas.text(4, 16, title, anchor="start", bold=True)
    canvas.text(336, 16, "thick edge: new", anchor="end", size=13.5)
    _wires(canvas, fresh, known | fresh, way)

    def state(name: str) -> str:
        return "new" if name in fresh else "there" if name in known else "gone"

    for name, (x, y) in _PLACES.items():
        shown = number(values[name]) if name in known | fresh else "?"
        canvas.box(x, y, 76, 38, _COLORS[name], f"{name} = {shown}", state=state(name), round_by=19)
    result = f"= {number(values['F'])}" if "F" in known | fresh else "= ?"
    canvas.box(_F, _TOP, 62, 48, BODY, ("F(x₁)", result), state=state("F"), round_by=3)
    sign, result = ("+", "y₁") if forward else ("−", "x₂")
    canvas.circle(_PLUS, _TOP, 13, INSIDE, sign, state="there" if result in known | fresh else "gone")
    for i, line in enumerate(lines):
        canvas.text(170, 236 + 21 * i, line)
    names = {"x₁", "x₂", "y₁", "y₂", "F"}
    lost = sorted(names - known - fresh)
    alt = f"{'Forward' if forward else 'Backward'}. {'; '.join(lines)}. Not known: {', '.join(lost) or 'nothing'}."
    return canvas.svg(alt)


def _wires(canvas: Canvas, fresh: set[str], seen: set[str], way: str) -> None:
    """The lines between the boxes, pointing the way that numbers go."""

    def wire(*points: tuple[float, float], color: str, used: bool, now: bool, dashed: bool = False) -> None:
        canvas.arrow(points, color if used else INSIDE, width=3.4 if now else 2.0, dashed=dashed or not used)

    f_known = "F" in seen
    in_f, out_f = (_F - 31, _TOP), (_F + 31, _TOP)
    wire((_LEFT + 38, _TOP), in_f, color=STREAM_1, used=f_known, now="F" in fresh)
    canvas.text(193, _TOP - 22, "×(1−v)", size=14)
    canvas.text(100, 152, {"forward": "× v", "backward": "÷ v", "cut": "× 0"}[way], size=14)
    low_left, low_right = (_LEFT + 38, _LOW - 8), (_RIGHT - 38, _LOW - 8)
    branch, plus_low = (_LEFT + 30, _TOP + 17), (_PLUS - 10, _TOP + 9)
    if way == "backward":
        wire(low_right, branch, color=STREAM_1, used="x₁" in seen, now="x₁" in fresh)
        wire(out_f, (_PLUS - 13, _TOP), color=BODY, used="x₂" in seen, now="x₂" in fresh)
        wire((_RIGHT - 38, _TOP), (_PLUS + 13, _TOP), color=STREAM_2, used="x₂" in seen, now="x₂" in fresh)
        wire(plus_low, low_left, color=STREAM_2, used="x₂" in seen, now="x₂" in fresh)
        return
    mixed = "y₁" in seen
    wire(branch, low_right, color=STREAM_1, used="y₂" in seen, now="y₂" in fresh)
    wire(out_f, (_PLUS - 13, _TOP), color=BODY, used=mixed, now="y₁" in fresh)
    wire(low_left, plus_low, color=STREAM_2, used=mixed, now="y₁" in fresh, dashed=way == "cut")
    wire((_PLUS + 13, _TOP), (_RIGHT - 38, _TOP), color=STREAM_2, used=mixed, now="y₁" in fresh)


def _signed(text: str) -> str:
    return f"({text})" if text.startswith("−") else text

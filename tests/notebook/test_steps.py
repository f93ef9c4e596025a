"""Stepped diagrams: complete without a script, described for who cannot see them, and true to what they draw."""

import re

import pytest
import torch
from elements import Elements

import idm_lib as idm
from idm_lib import notebook as nb
from idm_lib.errors import InputError
from idm_lib.notebook import steps, style
from idm_lib.notebook.drawing import WIDTH, Canvas, Frame, number, typeset

WORDS = {"name": "the trial", "caption": "What the reader should see here.", "alt": "Two boxes, one after another."}


def coupling_frames():
    return nb.diagrams.coupling(idm.WiredCoupling(lambda x: torch.relu(x) * 3 - 1, v=0.5), -2.0, 3.0)


def passes_frames():
    return nb.diagrams.passes(idm.ReversibleChain([idm.WiredCoupling(torch.tanh) for _ in range(4)]))


def model_of(name="sd15", **changes):
    with torch.device("meta"):
        return idm.InvertibleDiffusion.named(name, **changes)


DIAGRAMS = {
    "coupling": coupling_frames,
    "passes": passes_frames,
    "sampler": lambda: nb.diagrams.sampler(model_of(wired_steps=False)),
    "reversible sampler": lambda: nb.diagrams.reversible_sampler(model_of()),
    "two levels": lambda: nb.diagrams.two_levels(model_of(), idm.MemoryPolicy.lean()),
    "two levels, all kept": lambda: nb.diagrams.two_levels(model_of(), idm.MemoryPolicy.fast()),
    "reversible sampler, tiny": lambda: nb.diagrams.reversible_sampler(model_of("tiny")),
}


@pytest.fixture
def page(monkeypatch):
    """What would be displayed."""
    shown = []
    monkeypatch.setattr(steps, "emit", lambda output, mimetype="text/html": shown.append(output))
    return shown


def plain(frame: Frame) -> str:
    """The letters of a drawing, subscripts set back as digits, without the marks that move them."""
    text = re.sub(r"<tspan dy=\"-[^>]*>\u200b</tspan>", "", frame.svg)
    return re.sub(r"<[^>]*>", "", re.sub(r"</text>", "\n", text))


def frames(count: int = 3) -> list[Frame]:
    return [
        Frame(Canvas(50).svg(f"An empty drawing, number {i}."), f"Title {i}", f"Words {i}.") for i in range(count)
    ]


def test_every_frame_is_there_and_the_first_is_shown(page):
    nb.stepped(frames(), **WORDS)
    elements = Elements(page[0].html)
    cells = [a for a in elements.all("div") if "data-k" in a]
    assert [c["data-label"] for c in cells] == ["1 of 3", "2 of 3", "3 of 3"]
    assert ["hidden" in c for c in cells] == [False, True, True]
    (control,) = elements.all("input")
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "0")
    assert control["aria-label"] == "the trial, step"
    back, forth = elements.all("button")
    assert (back["aria-disabled"], forth["aria-disabled"]) == ("true", "false")
    assert all(len(b["aria-label"]) > 5 for b in (back, forth))


def test_what_changes_is_announced_and_the_whole_is_described(page):
    nb.stepped(frames(), **WORDS)
    (stage,) = [a for a in Elements(page[0].html).all("div") if a.get("class") == "nbf-stage"]
    assert stage["aria-live"] == "polite"
    assert stage["aria-label"] == WORDS["alt"]
    for i in range(3):
        assert f"Title {i}" in page[0].text
        assert f"Words {i}." in page[0].text, "without a browser the words must tell it"


def test_without_a_script_and_on_paper_nothing_is_hidden(page):
    nb.stepped(frames(), **WORDS)
    rules = re.search(r"@media print,\(scripting:none\)\{(.*?\}\})", page[0].html)[1]
    assert ".nbf-stage .nbf-frame[hidden]{grid-area:auto;visibility:visible" in rules
    assert ".nbf-bar{display:none}" in rules


def test_one_frame_or_no_words_are_refused(page):
    with pytest.raises(InputError, match="at least two frames"):
        nb.stepped(frames(1), **WORDS)
    with pytest.raises(InputError, match="alt text"):
        nb.stepped(frames(), **WORDS | {"alt": "steps.svg"})


def test_subscripts_are_set_by_the_page():
    assert typeset("x₁ < y₂") == "x<sub>1</sub> &lt; y<sub>2</sub>"
    assert re.sub(r"<[^>]*>|\u200b", "", typeset("x₁₂ & 3", "tspan")) == "x12 &amp; 3"
    down, up = re.findall(r'dy="([^"]+)"', typeset("x₁", "tspan"))
    assert float(down) == -float(up), "what follows a subscript must be back on the line"


@pytest.mark.parametrize(("value", "text"), [(-2.0, "−2"), (0.25, "0.25"), (-0.0, "0"), (1 / 3, "0.333")])
def test_numbers_are_set_as_in_text(value, text):
    assert number(value) == text


@pytest.mark.parametrize("name", DIAGRAMS)
def test_every_drawing_can_be_read(name, page):
    drawn = DIAGRAMS[name]()
    nb.stepped(drawn, **WORDS)
    assert not re.search(r"https?://|\bid=|url\(", page[0].html), "nothing is fetched, no names can meet"
    assert len({frame.svg for frame in drawn}) == len(drawn), "a frame must differ from the others"
    for frame in drawn:
        assert 10 < len(frame.title + frame.words) < 330
        (svg,) = Elements(frame.svg).all("svg")
        assert svg["role"] == "img"
        assert len(svg["aria-label"]) > 25
        assert svg["viewbox"].startswith(f"0 0 {WIDTH} ")
        assert svg["fill"] == "currentColor"
        for text in Elements(frame.svg).all("text"):
            assert float(text["font-size"]) >= 13
            assert "fill" not in text, "letters take the page's own colour"
        colors = set(re.findall(r"#[0-9a-f]{6}", frame.svg))
        assert colors <= set(style.COLORS.values())


@pytest.mark.parametrize(("v", "x1", "x2"), [(0.5, -2.0, 3.0), (0.25, 1.5, -4.0)])
def test_the_coupling_s_numbers_are_the_link_s(v, x1, x2):
    link = idm.WiredCoupling(lambda x: 2 * x + 1, v=v)
    drawn = nb.diagrams.coupling(link, x1, x2)
    y1, y2 = (float(y) for y in link(torch.tensor([x1]), torch.tensor([x2])))
    assert y1 == pytest.approx((1 - v) * (2 * x1 + 1) + v * x2)
    forward, solved, cut = (plain(drawn[i]) for i in (2, 6, 7))
    for text in (forward, solved):
        for line in (f"x1 = {number(x1)}", f"x2 = {number(x2)}", f"y1 = {number(y1)}", f"y2 = {number(y2)}"):
            assert line in text
    assert f"y1 = {number(2 * x1 + 1)}" in cut, "with v = 0, y1 is what F makes of x1"


def test_the_coupling_shows_nothing_before_it_is_known():
    texts = [plain(frame) for frame in coupling_frames()]
    unknown = [set(re.findall(r"(\w+\d|F\(x1\)\n)\s?= \?", text)) for text in texts]
    assert unknown[0] == {"y1", "y2"}
    assert unknown[3] == {"x1", "x2", "F(x1)\n"}, "after the forward pass only the end is kept"
    assert [len(u) for u in unknown[3:7]] == [3, 2, 1, 0], "one thing is found a frame"


def test_a_coupling_without_a_v_or_without_an_inverse_is_refused():
    with pytest.raises(InputError, match="expected a WiredCoupling"):
        nb.diagrams.coupling(idm.AdditiveCoupling(torch.tanh), 1.0, 2.0)
    with pytest.raises(InputError, match="depends on its input alone"):
        nb.diagrams.coupling(idm.WiredCoupling(torch.rand_like), 1.0, 2.0)


@pytest.mark.parametrize("links", [2, 3, 5])
def test_the_passes_count_what_they_draw(links):
    chain = idm.ReversibleChain([idm.WiredCoupling(torch.tanh) for _ in range(links)])
    drawn = nb.diagrams.passes(chain)
    for frame in drawn:
        numbers = [int(n) for n in re.findall(r"\n(\d)$", plain(frame), flags=re.M)][-3:]
        chips = [len(row) for row in _shelf(frame)]
        assert numbers == chips
    assert [len(_shelf(frame)[1]) for frame in drawn][-1] == 0
    assert max(len(_shelf(frame)[1]) for frame in drawn) == 1
    assert max(len(_shelf(frame)[2]) for frame in drawn) == links
    assert f"up to {links}." in drawn[-1].words


def _shelf(frame: Frame) -> list[list[str]]:
    """The names in the three rows at the bottom of a drawing of the passes."""
    lines = plain(frame).split("\n")
    starts = [lines.index(words) for words in ("streams, gradients", "insides of bodies", "insides, if all stored")]
    rows = [lines[a + 1 : b] for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return [[word for word in row if re.match(r"[xygF]\d", word)] for row in rows]


def test_a_chain_that_does_not_fit_is_refused():
    for links in (1, 6):
        with pytest.raises(InputError, match="two to five links"):
            nb.diagrams.passes(idm.ReversibleChain([idm.WiredCoupling(torch.tanh) for _ in range(links)]))


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_the_chain_has_the_model_s_steps(steps):
    drawn = nb.diagrams.sampler(model_of(steps=steps, wired_steps=False))
    for frame in drawn:
        text = plain(frame)
        assert [f"step {t}\n" in text for t in range(8)] == [1 <= t <= steps for t in range(8)]
        assert f"x{steps}\n" in text
        assert "x̂\n" in text
    counts = [re.search(r"in memory: (\d) (image|inside)", plain(frame)).groups() for frame in drawn]
    assert counts[:3] == [("1", "image")] * 3
    assert max(int(n) for n, kind in counts if kind == "inside") == steps
    assert f"the peak {steps} inside" in drawn[-1].words


@pytest.mark.parametrize(("name", "parts"), [("sd15", ["noise", "agree"]), ("tiny", ["agree", "denoise"])])
def test_a_step_is_drawn_as_the_schedule_has_it(name, parts):
    text = plain(nb.diagrams.sampler(model_of(name))[1])
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_the_reversible_chain_counts_what_it_draws(steps):
    drawn = nb.diagrams.reversible_sampler(model_of(steps=steps))
    for frame in drawn:
        insides, images = re.search(r"in memory: (\d) insides?, (\d) images", plain(frame)).groups()
        filled = [
            colors
            for shape, colors in zip(*_shapes(frame), strict=True)
            if float(shape["rx"]) == 12 and colors in (style.COLORS["blue"], style.COLORS["green"])
        ]
        assert len(filled) == int(images)
        assert len(re.findall(r"inside of step \d", plain(frame))) == int(insides) <= 1
    assert f"have {steps} insides" in drawn[2].words
    assert f"{steps + 2} images" in plain(drawn[-1]), "a checkpoint keeps each"


def _shapes(frame: Frame) -> tuple[list[dict], list[str]]:
    """The boxes of a drawing that are there, and their colours."""
    boxes = [a for a in Elements(frame.svg).all("rect") if "stroke-dasharray" not in a]
    return boxes, [a["stroke"] for a in boxes]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="at most 6 steps"):
        nb.diagrams.sampler(model_of(steps=7))
    with pytest.raises(InputError, match="wired steps"):
        nb.diagrams.reversible_sampler(model_of(wired_steps=False))


@pytest.mark.parametrize(("steps", "kept"), [(3, 1), (3, 0), (4, 2), (2, "all")])
def test_the_two_levels_count_what_they_draw(steps, kept):
    model = model_of(steps=steps)
    drawn = nb.diagrams.two_levels(model, idm.MemoryPolicy(keep_steps=kept))
    dots = 0
    for frame in drawn[3:]:
        images, pairs = re.search(r"level 1 keeps (\d) image.*level 2 keeps (\d+) pair", plain(frame), re.S).groups()
        boxes, colors = _shapes(frame)
        assert sum(float(b["rx"]) == 11 for b in boxes) == int(images)
        full = [c for b, c in zip(boxes, colors, strict=True) if float(b["rx"]) == 5.5]
        assert len(full) in (2 * int(pairs), 0 if "inside step" not in plain(frame) else 12)
        dots = max(dots, len(full))
    assert dots == 2 * 6, "a pair for each run"
    k = steps if kept == "all" else kept
    assert f"{3 * steps - k}/{steps} = 3 − {k}/{steps}" in drawn[-1].words.replace("\u00a0", " ")
    assert f"run {3 - (k >= steps)} ×" in plain(drawn[-1])


def test_two_levels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="at most 4 steps"):
        nb.diagrams.two_levels(model_of(steps=5), idm.MemoryPolicy.lean())

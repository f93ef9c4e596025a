"""Figures, sliders and tables as a page gets them."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from elements import Elements
from PIL import Image

from idm_lib import notebook as nb
from idm_lib.errors import InputError
from idm_lib.notebook import figures, html, images, sliders, style

WORDS = {"caption": "What the reader should see here.", "alt": "A grey square beside a darker grey square."}
GREY = torch.full((1, 1, 120, 100), 0.5)


@pytest.fixture
def page(monkeypatch):
    """What would be displayed."""
    shown = []
    for module in (figures, images, sliders):
        monkeypatch.setattr(module, "emit", lambda output, mimetype="text/html": shown.append(output))
    return shown


def _decode(uri: str) -> np.ndarray:
    prefix = "data:image/webp;base64,"
    assert uri.startswith(prefix)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri[len(prefix) :]))).convert("RGB"))


def _luminance(color: str) -> float:
    linear = [(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for v in _rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


@pytest.mark.parametrize("color", style.COLORS.values(), ids=style.COLORS)
@pytest.mark.parametrize("ground", ["#fdfcf9", "#ffffff", "#15191f"])
def test_colours_keep_their_contrast_in_light_and_dark(color, ground):
    light, dark = sorted((_luminance(color), _luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


@pytest.mark.parametrize("shape", [(40, 30), (1, 40, 30), (1, 1, 40, 30), (3, 40, 30), (40, 30, 3), (1, 3, 40, 30)])
def test_every_image_layout_is_understood(shape):
    values = np.random.RandomState(0).rand(*shape)
    assert images.to_pixels(values).shape[:2] == (40, 30)
    assert np.array_equal(images.to_pixels(torch.from_numpy(values)), images.to_pixels(values))


def test_pixels_are_clipped_and_rounded():
    assert images.to_pixels(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0, np.nan]])).tolist() == [[0, 0, 128, 255, 255, 0]]


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (5, 8, 8), (8,), (1, 2, 8, 8)])
def test_a_batch_is_refused(shape):
    with pytest.raises(InputError, match="expected one image"):
        images.to_pixels(np.zeros(shape))


def test_small_images_keep_every_pixel(page):
    values = np.random.RandomState(1).randint(0, 256, (16, 16), dtype=np.uint8)
    nb.show(values / 255, **WORDS)
    (image,) = Elements(page[0].html).all("img")
    assert np.array_equal(_decode(image["src"])[..., 0], values)


def test_photographs_stay_close(page):
    photo = nb.photo("camera")
    nb.show(photo, **WORDS)
    (image,) = Elements(page[0].html).all("img")
    error = _decode(image["src"])[..., 0] / 255.0 - photo[0, 0].numpy()
    assert np.sqrt((error**2).mean()) < 0.03
    assert len(image["src"]) < 60_000


def test_show_describes_every_image(page):
    nb.show([GREY, GREY / 2], ["left", "right"], **WORDS)
    elements = Elements(page[0].html)
    assert [a["alt"] for a in elements.all("img")] == ["left", "right"]
    row = elements.all("div")[0]
    assert (row["role"], row["aria-label"]) == ("group", WORDS["alt"])
    assert WORDS["caption"] in page[0].html
    with pytest.raises(InputError, match="expected 2 titles"):
        nb.show([GREY, GREY], ["one"], **WORDS)


@pytest.mark.parametrize(("number", "half"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_images_of_a_row_share_its_tracks_and_wrap_into_halves(number, half, page):
    nb.show([GREY[..., :50], *[GREY] * (number - 1)], width=160, **WORDS)
    row, *cells = (a for a in Elements(page[0].html).all("div"))
    assert row["style"] == f"--n:{number};--half:{half};--w:112px;--m:160px"
    assert len(cells) == number
    assert not any("style" in cell for cell in cells), "a cell with a width of its own breaks the row's tracks"
    (rule,) = re.findall(r"\.nbf-row\{[^}]*\}", page[0].html)
    assert "grid-template-columns:repeat(auto-fit,minmax(" in rule
    assert set(re.findall(r"var\(--(\w+)", rule)) <= {"n", "half", "w", "m", "g", "all"}, "a length nobody sets"


def test_a_row_is_as_wide_as_its_widest_picture_needs(page):
    nb.show([torch.zeros(100, 300), GREY], **WORDS)
    assert Elements(page[0].html).all("div")[0]["style"] == "--n:2;--half:1;--w:210px;--m:300px"


@pytest.mark.parametrize(
    "alt", ["", "figure.png", "../_images/01_measuring_12_0.png", "short", "onelongwordwithoutspaces"]
)
def test_alt_text_that_says_nothing_is_refused(alt, page):
    with pytest.raises(InputError, match="alt text"):
        nb.show(GREY, caption=WORDS["caption"], alt=alt)


def test_slider_holds_every_frame_and_shows_one(page):
    frames = [torch.full((64, 64), level) for level in (0.0, 0.5, 1.0)]
    nb.slider(frames, ["dark", "grey", "bright"], name="level", start=1, **WORDS)
    elements = Elements(page[0].html)
    cells = [a for a in elements.all("div") if "data-k" in a]
    assert [c["data-label"] for c in cells] == ["dark", "grey", "bright"]
    assert ["hidden" in c for c in cells] == [True, False, True]
    levels = [round(_decode(a["src"]).mean()) for a in elements.all("img")]
    assert levels == [0, 128, 255]
    (control,) = elements.all("input")
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "1")
    assert control["aria-label"] == "level"
    assert control["aria-valuetext"] == "grey"


def test_slider_joins_images_of_one_height(page):
    nb.slider([[GREY, GREY], [GREY / 2, GREY]], ["a", "b"], name="x", **WORDS)
    assert _decode(Elements(page[0].html).all("img")[0]["src"]).shape == (120, 206, 3)
    with pytest.raises(InputError, match="one height"):
        nb.slider([[GREY, GREY[..., :60, :]], [GREY, GREY]], ["a", "b"], name="x", **WORDS)


def test_slider_may_describe_each_frame(page):
    own = ["A grey square, and nothing on it.", "The same square, in half as bright a grey."]
    nb.slider([GREY, GREY / 2], ["a", "b"], name="x", caption=WORDS["caption"], alt=own)
    assert [a["alt"] for a in Elements(page[0].html).all("img")] == [f"x: a. {own[0]}", f"x: b. {own[1]}"]
    with pytest.raises(InputError, match="one alt text or 2"):
        nb.slider([GREY, GREY / 2], ["a", "b"], name="x", caption=WORDS["caption"], alt=own[:1])


@pytest.mark.parametrize(("frames", "labels", "start"), [([GREY], ["a"], 0), ([GREY, GREY], ["a"], 0)])
def test_slider_refuses_what_does_not_match(frames, labels, start, page):
    with pytest.raises(InputError, match="at least two frames"):
        nb.slider(frames, labels, name="x", start=start, **WORDS)


def test_compare_puts_one_over_the_other(page):
    nb.compare(GREY, GREY / 2, ("grey", "dark"), **WORDS)
    elements = Elements(page[0].html)
    assert len(elements.all("img")) == 2
    assert elements.all("input")[0]["aria-label"] == "wipe: grey on the left, dark on the right"
    with pytest.raises(InputError, match="one size"):
        nb.compare(GREY, GREY[..., :50], **WORDS)


def test_figure_follows_the_page_and_shares_no_identifier(page):
    style.apply_style()
    for power in (1, 2):
        fig, ax = nb.plots()
        ax.plot(np.arange(5) ** power)
        ax.set(xlabel="n")
        nb.figure(fig, **WORDS)
    first, second = (output.html for output in page)
    assert "currentColor" in first
    assert style.INK not in first
    assert f'aria-label="{WORDS["alt"]}"' in first
    names = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', first))
    assert used <= names[0]


def test_table_is_a_table(page):
    nb.table([["pinv", "6.8"], ["sparse", "19.0"]], ["method", "PSNR, dB"], caption=WORDS["caption"])
    elements = Elements(page[0].html)
    assert [a.get("scope") for a in elements.all("th")] == ["col", "col"]
    assert [a.get("class") for a in elements.all("td")] == [None, "n", None, "n"]
    assert elements.all("div")[0]["aria-label"] == WORDS["caption"]
    assert elements.all("div")[0]["tabindex"] == "0", "who has no mouse scrolls it too"


def test_a_number_that_is_not_there_leaves_its_column_flush_right(page):
    nb.table([["1.5", "–", "–", "–"], ["–", "", "12 / 3", "none"]], list("abcd"), caption=WORDS["caption"])
    assert [a.get("class") for a in Elements(page[0].html).all("td")] == ["n", None, "n", None, "n", None, "n", None]


def test_a_hyphen_before_a_number_becomes_a_minus_and_no_other(page):
    nb.table([["a-1", "-0.50"], ["2026-11-26", "1e-06"]], ["name", "-1 dB"], caption=WORDS["caption"])
    html = page[0].html
    for cell in ("a-1", "−0.50", "2026-11-26", "1e-06", "name"):
        assert f">{cell}<" in html
    nb.say("From -0.5 to (-.25) dB at 1e-6, commit a-1, `-1` and γ-3.")
    assert page[1].text == "From −0.5 to (−.25) dB at 1e-6, commit a-1, `-1` and γ-3."


def test_an_empty_corner_heads_nothing(page):
    nb.table([["a", "1"]], ["", "n"], caption=WORDS["caption"])
    elements = Elements(page[0].html)
    assert len(elements.all("th")) == 1
    assert len(elements.all("td")) == 3


def test_nothing_is_fetched_from_anywhere(page):
    nb.slider([GREY, GREY / 2], ["a", "b"], name="x", **WORDS)
    nb.show(GREY, **WORDS)
    for output in page:
        assert not re.search(r"https?://(?!www\.w3\.org)", output.html)
        assert "@import" not in output.html


def test_without_a_notebook_the_words_are_printed(capsys):
    html.emit(html.Html("<b>x</b>", "the words"))
    assert capsys.readouterr().out == "the words\n"


def test_half_precision_is_shown():
    values = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        half = values.to(dtype)
        assert np.array_equal(images.to_pixels(half), images.to_pixels(half.double()))

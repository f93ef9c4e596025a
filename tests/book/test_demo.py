"""The model in the page: the same images and the same prediction as in PyTorch, without a network."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from visit import Visit

import idm_lib as idm
from idm_lib.evaluation import predict_quality
from idm_lib.export import page
from idm_lib.notebook.demo import demo_content
from idm_lib.operators import hold_back

pytestmark = pytest.mark.browser
LIMIT = 240_000  # milliseconds that a run may take on a busy machine


@pytest.fixture(scope="module")
def model():
    return idm.InvertibleDiffusion.from_pretrained("tiny").eval()


def _finish(page) -> str:
    """Wait for the end of a run, and return what the page says."""
    page.wait_for_function("document.querySelector('.idm-demo').getAttribute('aria-busy') === 'false'", timeout=LIMIT)
    return page.locator(".idm-status").inner_text()


def _last(page) -> dict:
    """The page's own record of its last run."""
    return page.evaluate(
        "() => { const l = idmDemo.last; return {...l, photo: Array.from(l.photo), image: Array.from(l.image)} }"
    )


def _agrees(model, record: dict, size: int) -> None:
    """The image and the prediction are PyTorch's."""
    x = torch.tensor(record["photo"]).reshape(1, 1, size, size)
    op = idm.BlockCS((size, size), record["ratio"])
    kept, held = hold_back(op)
    y = op.A(x)
    with torch.no_grad():
        expected = model(y[:, kept.indices], kept).clamp(0, 1)
    found = torch.tensor(record["image"]).reshape_as(expected)
    assert float((found - expected).abs().max()) < 1e-3
    (quality,) = predict_quality(expected, y[:, kept.indices], kept, y[:, held.indices], held)
    for name in ("psnr", "low", "high", "samples"):
        assert record["predicted"][name] == pytest.approx(getattr(quality, name), abs=1e-2), name


def test_the_page_in_the_book_recovers_a_photo_as_pytorch_does(html, browser, model):
    context = browser.new_context(viewport={"width": 1200, "height": 1000}, offline=True)
    visit = Visit(context, html / "book" / "demo.html")
    page = visit.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    assert not page.evaluate("Boolean(window.idmDemo.model)"), "the model should come when it is asked for"
    page.locator(".idm-run").click()
    said = _finish(page)
    assert re.match(r"Recovered in [\d.]+ s: \d\d\.\d dB\. Predicted without the photo, from \d+ numbers", said)
    assert {url.split("demo-")[-1] for url in asked if url.startswith("file:")} == {
        "model.js",
        "runtime.js",
        "worker.js",
    }
    record = _last(page)
    assert record["ratio"] == 0.1
    _agrees(model, record, 256)
    assert page.locator(".idm-steps li").count() == model.config.steps + 1
    assert visit.wrong == []
    context.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The page that ``idm demo`` writes, for small images, which are quick."""
    path = tmp_path_factory.mktemp("demo") / "demo.html"
    path.write_text(page(*demo_content(size=64), "A small page"), encoding="utf-8")
    return path


def test_the_page_by_itself_at_the_lowest_and_the_highest_ratio(small, browser, model):
    context = browser.new_context(offline=True)
    visit = Visit(context, small)
    visit.page.locator(".idm-run").click()
    assert _finish(visit.page).startswith("Recovered")
    control = visit.page.locator("input[type=range]")
    for key, ratio in (("Home", 0.01), ("End", 0.5)):
        control.focus()
        control.press(key)  # once loaded, the slider is enough
        assert _finish(visit.page).startswith("Recovered")
        record = _last(visit.page)
        assert record["ratio"] == ratio
        assert control.get_attribute("aria-valuetext").startswith(f"{100 * ratio:.0f} %")
        _agrees(model, record, 64)
    assert visit.wrong == []
    context.close()


def test_a_dropped_photo_and_a_file_that_is_none(small, browser, model, tmp_path):
    context = browser.new_context(offline=True)
    visit = Visit(context, small)
    wide = (np.random.RandomState(0).rand(60, 100, 3) * 255).astype(np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    field = visit.page.locator("input[type=file]")
    field.set_input_files(tmp_path / "wide.png")
    assert _finish(visit.page).startswith("Recovered")
    _agrees(model, _last(visit.page), 64)
    assert visit.page.locator(".idm-photos button[aria-pressed=true]").count() == 0
    (tmp_path / "notes.png").write_text("not an image")
    field.set_input_files(tmp_path / "notes.png")
    visit.page.wait_for_function("/cannot be read/.test(document.querySelector('.idm-status').textContent)")
    assert "notes.png cannot be read as an image" in visit.page.locator(".idm-status").inner_text()
    assert visit.wrong == []
    context.close()


def test_a_photo_of_ones_own_is_not_overtaken_by_one_that_is_slower(small, browser, model, tmp_path):
    context = browser.new_context(offline=True)
    context.add_init_script(
        "const decode = HTMLImageElement.prototype.decode;"
        "HTMLImageElement.prototype.decode = async function () {"
        "  await new Promise((done) => setTimeout(done, 1500)); await decode.call(this); window.late = true; };"
    )
    visit = Visit(context, small)
    own = (np.random.RandomState(1).rand(64, 64, 3) * 255).astype(np.uint8)
    Image.fromarray(own).save(tmp_path / "own.png")
    visit.page.locator("input[type=file]").set_input_files(tmp_path / "own.png")
    visit.page.wait_for_function("window.late")
    assert _finish(visit.page).startswith("Recovered")
    assert visit.page.locator(".idm-photos button[aria-pressed=true]").count() == 0
    grey = (own @ [0.299, 0.587, 0.114]) / 255
    assert np.abs(np.reshape(_last(visit.page)["photo"], (64, 64)) - grey).max() < 1e-2
    context.close()


def test_each_step_can_be_looked_at_by_keyboard(small, browser):
    context = browser.new_context(offline=True)
    visit = Visit(context, small)
    visit.page.locator(".idm-run").click()
    _finish(visit.page)

    def large() -> np.ndarray:
        address = visit.page.locator(".idm-result canvas").evaluate("c => c.toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))), dtype=float)

    last = large()
    first = visit.page.locator(".idm-steps button").first
    first.focus()
    first.press("Enter")
    assert np.abs(large() - last).max() > 5
    assert first.get_attribute("aria-pressed") == "true"
    assert "the start" in visit.page.locator(".idm-result figcaption").inner_text()
    context.close()


def test_two_clicks_while_the_model_loads_make_one_worker(small, browser):
    context = browser.new_context(offline=True)
    context.add_init_script(
        "window.made = 0; window.Worker = class extends Worker { constructor(...a) { super(...a); window.made++ } }"
    )
    visit = Visit(context, small)
    visit.page.evaluate("() => { const b = document.querySelector('.idm-run'); b.click(); b.click(); b.click() }")
    assert _finish(visit.page).startswith("Recovered")
    assert visit.page.evaluate("window.made") == 1
    assert visit.wrong == []
    context.close()


def test_a_model_that_does_not_arrive_is_said(html, browser, tmp_path):
    """Only the page itself, without the files beside it."""
    text = (html / "book" / "demo.html").read_text(encoding="utf-8")
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "demo-demo.js").write_bytes((html / "_static" / "demo-demo.js").read_bytes())
    (tmp_path / "demo.html").write_text(text.replace("../_static/demo-", "_static/demo-"), encoding="utf-8")
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.goto((tmp_path / "demo.html").as_uri(), wait_until="load")
    tab.locator(".idm-run").click()
    said = _finish(tab)
    assert re.match(r"This did not work: \w+\.js did not arrive", said)
    context.close()

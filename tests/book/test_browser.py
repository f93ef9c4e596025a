"""Every built page in Chromium, without a network: as a reader on a train would have it."""

import shutil

import pytest

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SKIPPED = {"genindex.html", "search.html"}  # the theme's own; opened, but they hold no prose


@pytest.fixture(scope="module")
def browser():
    """Chromium from the system; its absence is a failure, not a reason to skip."""
    from playwright.sync_api import sync_playwright

    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    assert path, "Chromium was not found; install it (apt-get install chromium)"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


class _Visit:
    """One opened page and everything that went wrong on it."""

    def __init__(self, context, path) -> None:
        self.wrong: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(f"console: {m.text}"))
        self.page.on("pageerror", lambda e: self.wrong.append(f"script: {e}"))
        self.page.on("requestfailed", lambda r: self.wrong.append(f"failed: {r.url}"))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri(), wait_until="load")
        self.page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise")
        self.page.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise }")

    def _asked(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"asked the network: {request.url}")


def _pages(html):
    return [
        p
        for p in sorted(html.rglob("*.html"))
        if "_static" not in p.relative_to(html).parts and p.name != "index.html"
    ]


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (360, "dark"), (1600, "light"), (1600, "dark")])
def test_every_page(html, browser, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    pages = _pages(html)
    assert len(pages) >= 5
    faults = []
    for path in pages:
        visit = _Visit(context, path)
        page = visit.page
        wrong = visit.wrong
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if overflow > 0:
            wrong.append(f"{overflow} pixels wider than the screen")
        wrong += page.evaluate(
            "() => [...document.images].filter(i => !i.closest('[hidden]') && !(i.complete && i.naturalWidth))"
            ".map(i => 'missing image: ' + i.src.slice(0, 80))"
        )
        sources, rendered, errors = page.evaluate(
            "() => [document.querySelectorAll('.math').length,"
            " document.querySelectorAll('.math mjx-container').length,"
            " document.querySelectorAll('mjx-merror, [data-mjx-error]').length]"
        )
        if rendered < sources or errors:
            wrong.append(f"{sources} formulas, {rendered} rendered, {errors} with errors")
        if path.name not in SKIPPED and page.evaluate("document.documentElement.dataset.theme") != theme:
            wrong.append(f"is not in its {theme} colours")
        faults += [f"{path.relative_to(html)}: {w}" for w in wrong]
        page.close()
    context.close()
    assert not faults, "\n".join(faults)


def test_mathematics_is_there_to_be_rendered(html, browser):
    context = browser.new_context(offline=True)
    visit = _Visit(context, html / "notebooks" / "01_measuring.html")
    assert visit.page.locator("mjx-container").count() > 20
    assert visit.page.locator("mjx-container").first.bounding_box()["width"] > 3
    context.close()


def _sliders(html, browser, kind):
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    found = 0
    for path in _pages(html):
        visit = _Visit(context, path)
        for index in range(visit.page.locator(f"figure.nbf-{kind}").count()):
            found += 1
            yield visit.page, visit.page.locator(f"figure.nbf-{kind}").nth(index)
        visit.page.close()
    assert found, f"no page has a {kind}"
    context.close()


def test_sliders_change_the_picture_by_mouse_and_by_keyboard(html, browser):
    for _page, figure in _sliders(html, browser, "slider"):
        control, label = figure.locator("input[type=range]"), figure.locator("output")
        control.scroll_into_view_if_needed()

        def picture(figure=figure) -> str:
            shown = figure.locator("[data-k]:not([hidden]) img")
            assert shown.count() == 1
            assert shown.evaluate("async i => { await i.decode(); return i.naturalWidth }") > 0
            return shown.get_attribute("src")

        control.focus()
        control.press("Home")
        first, first_label = picture(), label.inner_text()
        control.press("ArrowRight")
        second, second_label = picture(), label.inner_text()
        assert second != first
        assert second_label != first_label
        assert control.get_attribute("aria-valuetext") == second_label
        assert control.get_attribute("aria-label")
        box = control.bounding_box()
        control.click(position={"x": box["width"] - 4, "y": box["height"] / 2})
        last, last_label = picture(), label.inner_text()
        assert last not in (first, second)
        control.press("End")
        assert (picture(), label.inner_text()) == (last, last_label)


def test_wipes_move_by_mouse_and_by_keyboard(html, browser):
    for page, figure in _sliders(html, browser, "compare"):
        control = figure.locator("input[type=range]")
        control.scroll_into_view_if_needed()

        def edge(figure=figure) -> str:
            return figure.locator("img").nth(1).evaluate("i => getComputedStyle(i).clipPath")

        start = edge()
        control.focus()
        control.press("ArrowRight")
        moved = edge()
        assert moved != start
        box = control.bounding_box()
        page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
        assert edge() not in (start, moved)


def test_hints_and_solutions_open(html, browser):
    context = browser.new_context(offline=True)
    visit = _Visit(context, html / "notebooks" / "01_measuring.html")
    folds = visit.page.locator("details")
    assert folds.count() >= 6
    solution = folds.filter(has_text="Worked solution").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").is_visible()
    context.close()

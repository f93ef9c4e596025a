"""Every built page in Chromium, without a network: as a reader on a train would have it."""

import pytest
from visit import OWN_COLOURS, Visit, pages

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (360, "dark"), (1600, "light"), (1600, "dark")])
def test_every_page(html, browser, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    paths = pages(html)
    assert len(paths) >= 5
    faults = []
    for path in paths:
        visit = Visit(context, path)
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
        if path.name not in OWN_COLOURS and page.evaluate("document.documentElement.dataset.theme") != theme:
            wrong.append(f"is not in its {theme} colours")
        faults += [f"{path.relative_to(html)}: {w}" for w in wrong]
        page.close()
    context.close()
    assert not faults, "\n".join(faults)


def test_mathematics_is_there_to_be_rendered(html, browser):
    context = browser.new_context(offline=True)
    visit = Visit(context, html / "notebooks" / "01_measuring.html")
    assert visit.page.locator("mjx-container").count() > 20
    assert visit.page.locator("mjx-container").first.bounding_box()["width"] > 3
    context.close()


def _sliders(html, browser, kind):
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    found = 0
    for path in pages(html):
        if f"nbf nbf-{kind}" not in path.read_text(encoding="utf-8"):
            continue
        visit = Visit(context, path)
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


def _shown(figure) -> tuple[str, str]:
    """The label of a stepped diagram's frame and all that it says; exactly one is in sight."""
    frames = figure.locator("[data-k]").filter(visible=True)
    assert frames.count() == 1
    return frames.get_attribute("data-label"), frames.locator("p").inner_text()


def test_stepped_diagrams_go_back_and_forth_by_mouse_and_by_keyboard(html, browser):
    for _page, figure in _sliders(html, browser, "steps"):
        back, forth = figure.locator("button").nth(0), figure.locator("button").nth(1)
        control, label = figure.locator("input[type=range]"), figure.locator("output")
        count = figure.locator("[data-k]").count()
        seen = [_shown(figure)]
        for _ in range(count - 1):  # by mouse
            assert forth.get_attribute("aria-disabled") == "false"
            forth.click()
            seen.append(_shown(figure))
            assert label.inner_text() == control.get_attribute("aria-valuetext") == seen[-1][0]
        assert [shown[0] for shown in seen] == [f"{i} of {count}" for i in range(1, count + 1)]
        assert len({words for _, words in seen}) == count
        assert forth.get_attribute("aria-disabled") == "true"
        forth.click(force=True)
        assert _shown(figure) == seen[-1], "at the end it stays"
        for key in ("Enter", "Space"):  # the buttons by keyboard
            before = seen.index(_shown(figure))
            back.press(key)
            assert _shown(figure) == seen[before - 1]
        control.press("Home")  # the slider by keyboard
        assert _shown(figure) == seen[0]
        assert back.get_attribute("aria-disabled") == "true"
        control.press("ArrowRight")
        assert _shown(figure) == seen[1]
        control.press("ArrowLeft")
        assert _shown(figure) == seen[0]


def test_stepped_diagrams_are_announced(html, browser):
    for _page, figure in _sliders(html, browser, "steps"):
        live = figure.locator("[aria-live=polite]")
        told = []
        for _ in range(2):
            tree = live.aria_snapshot()  # what a screen reader is given: hidden frames are no part of it
            drawing = live.locator("svg[role=img]").filter(visible=True).get_attribute("aria-label")
            assert tree.count('img "') == 1
            assert f'img "{drawing.split(".")[0]}' in tree
            told.append(tree)
            figure.get_by_role("button", name="Next step").click()
        assert told[0] != told[1]


@pytest.mark.parametrize("width", [360, 1600])
def test_stepped_diagrams_fit_and_can_be_read(html, browser, width):
    for page, figure in _sliders(html, browser, "steps"):
        page.set_viewport_size({"width": width, "height": 900})
        faults = figure.evaluate(
            """figure => [...figure.querySelectorAll("[data-k]")].flatMap(frame => {
                const svg = frame.querySelector("svg"), box = svg.getBoundingClientRect(), found = [];
                const say = what => found.push(`${frame.dataset.label}: ${what}`);
                if (box.right > innerWidth || box.width < 270) say(`drawing from ${box.left} to ${box.right}`);
                for (const text of svg.querySelectorAll("text")) {
                    const at = text.getBoundingClientRect();
                    if (at.left < box.left - 1 || at.right > box.right + 1 || at.bottom > box.bottom + 1)
                        say(`"${text.textContent}" leaves the drawing`);
                    if (parseFloat(text.getAttribute("font-size")) * box.width / svg.viewBox.baseVal.width < 11)
                        say(`"${text.textContent}" is too small`);
                }
                const words = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]);
                words.forEach(([a, p], i) => words.slice(i + 1).forEach(([b, q]) => {
                    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
                    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
                    const shared = high / Math.min(p.height, q.height);
                    if (wide > 1 && shared > 0.45) say(`"${a.textContent}" covers "${b.textContent}"`);
                }));
                return found;
            })"""
        )
        assert not faults, "\n".join(faults)


def test_stepped_diagrams_show_every_frame_on_paper_and_without_scripts(html, browser):
    def all_in_sight(page) -> None:
        figure = page.locator("figure.nbf-steps").first
        frames = figure.locator("[data-k]")
        assert frames.count() == frames.filter(visible=True).count() > 2
        tops = frames.evaluate_all("all => all.map(e => [e.offsetTop, e.offsetLeft].join())")
        assert len(set(tops)) == len(tops), "they lie on top of each other"
        assert figure.locator("button").filter(visible=True).count() == 0

    path = html / "notebooks" / "06_couplings.html"
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    all_in_sight(page)
    context.close()
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    all_in_sight(page)
    context.close()


def test_hints_and_solutions_open(html, browser):
    context = browser.new_context(offline=True)
    visit = Visit(context, html / "notebooks" / "01_measuring.html")
    folds = visit.page.locator("details")
    assert folds.count() >= 6
    solution = folds.filter(has_text="Worked solution").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").is_visible()
    context.close()

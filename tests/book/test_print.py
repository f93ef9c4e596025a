"""Every page as it is printed: on A4, light for who reads in the dark too, without what only a screen can use."""

import pytest
from visit import Visit, pages

pytestmark = pytest.mark.browser

PAPER = 672  # CSS pixels between the margins of an A4 page
SCREEN_ONLY = (
    ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .bd-footer-content, .prev-next-footer, .copybtn,"
    " .headerlink, input[type=range], .nbf-how, details:not([open])"
)
# What is wrong with an open page as print shows it.
LOOK = """(screenOnly) => {
  const shown = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const name = e => `${e.tagName.toLowerCase()}.${e.className} "${(e.textContent || '').trim().slice(0, 40)}"`;
  const wrong = [];
  for (const e of document.querySelectorAll(screenOnly)) if (shown(e)) wrong.push(`shows ${name(e)}`);
  for (const e of document.querySelectorAll('html, body, .bd-main, .bd-content, .bd-article')) {
    const ground = getComputedStyle(e).backgroundColor;
    if (!['rgb(255, 255, 255)', 'rgba(0, 0, 0, 0)'].includes(ground)) wrong.push(`${name(e)} is on ${ground}`);
  }
  const article = document.querySelector('.bd-article') || document.querySelector('main');
  if (!shown(article) || !shown(article.querySelector('h1'))) wrong.push('has no title');
  for (const e of article.querySelectorAll('p, li, td, th, figcaption, h1, h2, h3, .highlight span, .nbf-title')) {
    const ink = getComputedStyle(e).color, [r, g, b] = ink.match(/[\\d.]+/g).map(Number);
    if (shown(e) && .2126 * r + .7152 * g + .0722 * b > 160) wrong.push(`${name(e)} is printed in ${ink}`);
  }
  const over = e => Math.round(e.getBoundingClientRect().right - document.documentElement.clientWidth);
  for (const e of article.querySelectorAll('p, pre, table, img, svg, mjx-container, .nbf-cell, dt'))
    if (shown(e) && over(e) > 1) wrong.push(`${name(e)} is ${over(e)} pixels too wide`);
  for (const e of article.querySelectorAll('pre, .nbf-scroll, .pst-scrollable-table-container, mjx-container'))
    if (shown(e) && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible')
      wrong.push(`${name(e)} is cut off`);
  for (const f of article.querySelectorAll('.nbf-slider')) {
    const frames = [...f.querySelectorAll('[data-k]')];
    if (!frames.every(shown)) wrong.push('a slider hides frames');
    for (const e of frames)
      if (getComputedStyle(e, '::after').content !== JSON.stringify(e.dataset.label))
        wrong.push(`a frame has no label: ${e.dataset.label}`);
  }
  for (const f of article.querySelectorAll('.nbf-wipe')) {
    const [after, before] = [...f.querySelectorAll('img')].map(e => e.getBoundingClientRect());
    if (!(before.right <= after.left && before.width === after.width)) wrong.push('the sides of a wipe overlap');
  }
  return wrong;
}"""


def _print(context, path):
    visit = Visit(context, path)
    visit.page.emulate_media(media="print", color_scheme="dark")
    return visit.page


@pytest.fixture
def paper(browser):
    context = browser.new_context(viewport={"width": PAPER, "height": 1000}, color_scheme="dark", offline=True)
    yield context
    context.close()


def test_every_page_prints_well(html, paper):
    faults = []
    for path in pages(html):
        page = _print(paper, path)
        faults += [f"{path.relative_to(html)}: {w}" for w in page.evaluate(LOOK, SCREEN_ONLY)]
        page.close()
    assert not faults, "\n".join(faults)


def test_a_solution_that_was_opened_is_printed(html, paper):
    page = _print(paper, html / "notebooks" / "01_measuring.html")
    solution = page.locator("details", has_text="Worked solution").first
    assert not solution.is_visible()
    solution.evaluate("fold => { fold.open = true }")
    assert solution.locator("pre").is_visible()
    assert page.evaluate(LOOK, SCREEN_ONLY) == []


@pytest.mark.parametrize(
    ("planted", "wanted"),
    [
        ("<p style='color: #ddd'>pale</p>", "is printed in"),
        ("<p style='width: 900px'>wide</p>", "too wide"),
        ("<pre style='overflow-x: auto; white-space: pre; width: 90px'>cut off at its right</pre>", "is cut off"),
        ("<input type=range>", "shows input"),
        ("<figure class=nbf-slider><div data-k=0 style='display: none'>x</div></figure>", "hides frames"),
    ],
)
def test_what_would_print_badly_is_found(html, paper, planted, wanted):
    page = _print(paper, html / "book" / "cite.html")
    page.locator(".bd-article section").first.evaluate(
        "(section, text) => section.insertAdjacentHTML('beforeend', text)", planted
    )
    assert any(wanted in w for w in page.evaluate(LOOK, SCREEN_ONLY))


def test_a_page_becomes_a_pdf(html, browser, tmp_path):
    context = browser.new_context(offline=True)
    visit = Visit(context, html / "notebooks" / "00_one_photo.html")
    visit.page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert 3 <= content.count(b"/Type /Page\n") <= 40
    context.close()

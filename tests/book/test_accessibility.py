"""What axe-core finds on every page, light and dark, narrow and wide; and the words in figures, which it cannot see.

axe-core is Deque's, vendored in ``axe/`` with its licence, so that the test needs no network.
"""

from pathlib import Path

import pytest
from visit import OWN_COLOURS, Visit, pages

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
# Every rule that axe runs by itself, and the size of what is to be touched. Nothing is left out.
ALL = {"rules": {"target-size": {"enabled": True}}}
SEEN = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
LAID_OUT = {"runOnly": {"type": "rule", "values": ["color-contrast", "scrollable-region-focusable", "target-size"]}}
# The style sheets give the text other colours by theme but not by width, so it is judged once in each theme; what
# stands around it (menus, bars, contents) is shown by width, so that is judged in all four, twice without the text.
STATES = [
    (360, "light", False, SEEN),
    (360, "dark", True, LAID_OUT),
    (1600, "dark", False, SEEN),
    (1600, "light", True, ALL),
]

RUN = """async options => {
  const run = await axe.run({resultTypes: ['violations'], ...options});
  return run.violations.filter(v => ['serious', 'critical'].includes(v.impact)).flatMap(
    v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 120)} (${n.failureSummary.slice(0, 200)})`));
}"""

# The contrast of a word in an SVG with what is painted below its middle: the page, and the shapes drawn before it.
# A word over an embedded picture is not judged.
WORDS = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(
    v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const over = (c, alpha, ground) => ground.map((g, i) => alpha * c[i] + (1 - alpha) * g);
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const plain = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const page = rgb(getComputedStyle(document.body).backgroundColor).slice(0, 3);
  const wrong = [];
  for (const svg of document.querySelectorAll('.bd-article svg')) {
    const shapes = [];
    for (const each of svg.querySelectorAll('path, rect, circle, polygon, image, text')) {
      if (each.closest('defs, clipPath')) continue;
      const style = getComputedStyle(each), box = each.getBoundingClientRect();
      if (each.tagName !== 'text') {
        if (each.tagName === 'image' || style.fill !== 'none') shapes.push({each, style, box});
        continue;
      }
      if (!each.textContent.trim()) continue;
      const at = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2);
      let ground = page;
      for (const below of shapes) {
        const {left, right, top, bottom} = below.box;
        if (at.x < left || at.x > right || at.y < top || at.y > bottom) continue;
        if (below.each.tagName === 'image') { ground = null; continue; }
        if (!below.each.isPointInFill(at.matrixTransform(below.each.getScreenCTM().inverse()))) continue;
        const alpha = below.style.fillOpacity * below.style.opacity;
        ground = ground ? over(plain(below.style.fill), alpha, ground) : alpha > .9 ? plain(below.style.fill) : null;
      }
      if (!ground) continue;
      const own = getComputedStyle(each.querySelector('tspan') || each);
      const ink = over(plain(own.fill), own.fillOpacity * own.opacity, ground);
      const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
      const contrast = (high + .05) / (low + .05);
      if (contrast < 4.5) wrong.push(
        `figure: "${each.textContent.trim()}" has a contrast of ${contrast.toFixed(2)} with what is behind it`);
    }
  }
  return wrong;
}"""


@pytest.fixture
def context(browser):
    opened = browser.new_context(viewport={"width": 360, "height": 900}, offline=True)
    yield opened
    opened.close()


def _findings(page, path):
    """What is serious or critical on an open page, each with the state in which it is."""
    page.evaluate(AXE)
    page.add_style_tag(content="*, ::before, ::after { transition: none !important }")  # no colour in between
    page.evaluate("document.fonts.ready")
    page.wait_for_timeout(400)  # the theme takes 300 ms to find what scrolls, once the fonts are there
    found = []
    for width, theme, with_text, options in STATES:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        if path.name not in OWN_COLOURS:
            page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
        page.evaluate(
            "seen => document.querySelectorAll('.bd-article').forEach("
            "text => { text.style.visibility = seen ? '' : 'hidden' })",
            with_text,
        )
        wrong = page.evaluate(RUN, options)
        if with_text:
            wrong += page.evaluate(WORDS)
        found += [f"{width} {theme}: {w}" for w in wrong]
    return found


def test_no_page_has_a_serious_finding(html, context):
    faults = []
    for path in pages(html):
        visit = Visit(context, path)
        faults += [f"{path.relative_to(html)}, {w}" for w in _findings(visit.page, path)]
        visit.page.close()
    assert not faults, "\n".join(faults)


PLANTED = {
    "<p style='color: #8a8a8a'>Grey on white, and paler than grey on black.</p>": ["1600 light: color-contrast"],
    "<p style='color: #5c5c5c'>Grey on black.</p>": ["360 dark: color-contrast"],
    "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' width=40 height=40>": ["1600 light: image-alt"],
    "<svg width=300 height=40><text y=20 fill='#8a8a8a'>grey</text></svg>": ["1600 light: figure"],
    "<svg width=300 height=40><rect width=300 height=40 fill='#aaa'/><text y=20 fill='#eee'>on grey</text></svg>": [
        "1600 light: figure",
        "360 dark: figure",
    ],
    "<svg width=300 height=40><rect width=300 height=40 fill='#222'/><text y=20 fill='#eee'>on dark</text></svg>": [],
}


@pytest.mark.parametrize(("planted", "wanted"), PLANTED.items())
def test_a_planted_fault_is_found(html, context, planted, wanted):
    path = html / "book" / "cite.html"
    visit = Visit(context, path)
    section = visit.page.locator(".bd-article section").first
    section.evaluate("(element, text) => element.insertAdjacentHTML('beforeend', text)", planted)
    found = _findings(visit.page, path)
    assert len(found) == len(wanted), found
    for start in wanted:
        assert any(w.startswith(start) for w in found), found


def test_a_planted_fault_around_the_text_is_found_in_every_state(html, context):
    path = html / "book" / "cite.html"
    visit = Visit(context, path)
    visit.page.evaluate(
        "() => document.querySelector('main').insertAdjacentHTML('beforeend',"
        " '<p style=\"color: #777; background: #666\">Grey on grey.</p>')"
    )
    found = [w.split(": ")[:2] for w in _findings(visit.page, path)]
    assert sorted(found) == sorted([f"{width} {theme}", "color-contrast"] for width, theme, _, _ in STATES)

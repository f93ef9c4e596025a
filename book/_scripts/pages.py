"""Check built pages without a browser: links, images, and that nothing is fetched from elsewhere."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_PAGE_BYTES = 3_000_000
# What makes a browser fetch, as opposed to <a href>, which waits for a click.
FETCHES = {"img": "src", "script": "src", "source": "src", "iframe": "src", "video": "src", "audio": "src"}
FETCHING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "shortcut icon"}


class Page(HTMLParser):
    """One page's links, identifiers, fetched resources and images."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort an element's attributes into the lists above."""
        a = dict(attrs)
        if a.get("id"):
            self.ids.add(str(a["id"]))
        if tag == "a" and a.get("href"):
            self.links.append(str(a["href"]))
        if tag == "img":
            self.images.append(a)
        if tag in FETCHES and a.get(FETCHES[tag]):
            self.fetched.append(str(a[FETCHES[tag]]))
        if tag == "link" and a.get("href") and set((a.get("rel") or "").split()) & FETCHING_LINKS:
            self.fetched.append(str(a["href"]))


def read(html: Path) -> dict[Path, Page]:
    """Return every page below ``html``."""
    skipped = {"_static", "_sources", "_sphinx_design_static"}
    paths = [p for p in sorted(html.rglob("*.html")) if not skipped & set(p.relative_to(html).parts)]
    return {path.resolve(): Page(path) for path in paths}


def problems(html: Path) -> list[str]:
    """Return what is wrong with the built pages, a line each; empty when all is well."""
    pages = read(html)
    wrong = [] if pages else [f"{html} holds no pages"]
    for path, page in pages.items():
        name = path.relative_to(html.resolve())
        for address in page.fetched:
            parts = urlsplit(address)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                wrong.append(f"{name}: fetches {address} from elsewhere")
            elif not (path.parent / unquote(parts.path)).exists():
                wrong.append(f"{name}: {address} is missing")
        for image in page.images:
            alt = (image.get("alt") or "").strip()
            if not alt or alt.endswith((".png", ".jpg", ".svg", ".webp")):
                wrong.append(f"{name}: image {str(image.get('src'))[:60]} has no alt text but {alt!r}")
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{name}: link to {address}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                wrong.append(f"{name}: link to {address}, whose place does not exist")
        size = path.stat().st_size
        if size > MAX_PAGE_BYTES:
            wrong.append(f"{name}: {size:,} bytes; a page may have {MAX_PAGE_BYTES:,}")
    return wrong

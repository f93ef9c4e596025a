"""Check built pages without a browser: links, images and their words, weight, and nothing fetched from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_PAGE_BYTES = 3_000_000
# What a program calls a picture when nobody has: the name of a file or of its address, a kind of picture, a number.
NO_WORDS = re.compile(
    r"[\W\d_]*"
    r"|(?:(?:an?|the|this)\s+)?(?:untitled|alt(?: text)?|image|img|figure|fig|picture|photo|plot|chart|graph|diagram|"
    r"screenshot|output|logo|svg|png|notebook output|matplotlib figure)[\s\W\d_]*"
    r"|<?figure size .*"
    r"|.*\.(?:png|jpe?g|svg|webp|gif|avif|pdf|bmp|tiff?)"
    r"|\S*[/\\]\S*|\w*_\w*",
    flags=re.I,
)
# What makes a browser fetch, as opposed to <a href>, which waits for a click.
FETCHES = {"img": "src", "script": "src", "source": "src", "iframe": "src", "video": "src", "audio": "src"}
FETCHING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "shortcut icon"}


class Page(HTMLParser):
    """One page's links, identifiers, fetched resources, and images, drawings among them, with their words."""

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
        if a.get("role") == "img" and tag != "img":
            self.images.append({"src": f"<{tag}>", "alt": a.get("aria-label")})
        if tag in FETCHES and a.get(FETCHES[tag]):
            self.fetched.append(str(a[FETCHES[tag]]))
        if tag == "link" and a.get("href") and set((a.get("rel") or "").split()) & FETCHING_LINKS:
            self.fetched.append(str(a["href"]))


def read(html: Path) -> dict[Path, Page]:
    """Return every page below ``html``."""
    skipped = {"_static", "_sources", "_sphinx_design_static"}
    paths = [p for p in sorted(html.rglob("*.html")) if not skipped & set(p.relative_to(html).parts)]
    return {path.resolve(): Page(path) for path in paths}


def says_nothing(alt: str | None, address: str = "") -> bool:
    """Return whether alternative text is missing, or is what a program writes when nobody has described the image."""
    words = (alt or "").strip()
    own_name = Path(unquote(urlsplit(address).path)).stem if not address.startswith("data:") else ""
    return NO_WORDS.fullmatch(words) is not None or words.lower() == own_name.lower()


def weight(page: Page) -> int:
    """Return the bytes of a page and of its own pictures, each counted once; what all pages share is not counted."""
    addresses = {urlsplit(str(image.get("src"))) for image in page.images}
    files = {page.path.parent / unquote(a.path) for a in addresses if a.path and not a.scheme and not a.netloc}
    return page.path.stat().st_size + sum(file.stat().st_size for file in files if file.is_file())


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
            if says_nothing(image.get("alt"), str(image.get("src"))):
                wrong.append(f"{name}: image {str(image.get('src'))[:60]} has no alt text but {image.get('alt')!r}")
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{name}: link to {address}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                wrong.append(f"{name}: link to {address}, whose place does not exist")
        size = weight(page)
        if size > MAX_PAGE_BYTES:
            wrong.append(f"{name}: {size:,} bytes with its pictures; a page may have {MAX_PAGE_BYTES:,}")
    return wrong

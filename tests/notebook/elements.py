"""What stands in the HTML that a page is given."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """The elements of a piece of HTML with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [a for t, a in self.found if t == tag]

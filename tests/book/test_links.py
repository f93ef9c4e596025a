"""``make links``: every address outside the book is found, and a dead one is told from one that lives."""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_scripts"))

import links  # noqa: E402


@pytest.fixture
def server():
    """Answers with the code that a path names, and notes who asked for what."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append((self.path, self.headers["User-Agent"]))
            code = int(re.search(r"\d{3}", self.path)[0])
            self.send_response(code)
            if code == 301:
                self.send_header("Location", "/200/new")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


def test_every_kind_of_answer(server):
    address, asked = server
    paths = ["200/a", "301/moved", "404/gone", "403/robots", "503/down", "200/with_underscore_(and)_brackets_"]
    sorted_ = links.sort(links.ask([f"{address}/{p}" for p in paths], linkcheck_retries=1))
    kinds = {
        line.removeprefix(f"{address}/").split(": ")[0]: kind for kind, lines in sorted_.items() for line in lines
    }
    assert kinds == {
        "200/a": "answers",
        "301/moved": "answers",
        "404/gone": "dead",
        "403/robots": "refuses programs",
        "503/down": "gave no answer",
        "200/with_underscore_(and)_brackets_": "answers",
    }
    assert {agent.split(",")[0] for _, agent in asked} == {"idm_lib"}


def test_a_server_that_is_gone_is_dead():
    (dead,) = links.sort(links.ask(["http://127.0.0.1:9/x"], linkcheck_retries=1))["dead"]
    assert dead.startswith("http://127.0.0.1:9/x: ")


def test_of_a_doi_the_registry_is_asked(server, monkeypatch):
    address, asked = server
    monkeypatch.setattr(links, "REGISTRY", f"{address}/200/")
    assert links.ask(["https://doi.org/10.1109/TPAMI.2025.3538896"]) == {
        "https://doi.org/10.1109/TPAMI.2025.3538896": ("working", "")
    }
    assert asked[0][0] == "/200/10.1109/TPAMI.2025.3538896"


def test_links_are_collected_from_pages_and_markdown(tmp_path):
    (tmp_path / "page.html").write_text("<a href='https://a.example/x#y'>a</a><a href='other.html#z'>b</a>")
    for name in links.MARKDOWN:
        (tmp_path / name).write_text("[c](https://c.example/) and <https://d.example/q> and [e](book/e.md)")
    found = links.collect(tmp_path, tmp_path)
    assert found == {
        "https://a.example/x": ["page.html"],
        "https://c.example/": sorted(links.MARKDOWN),
        "https://d.example/q": sorted(links.MARKDOWN),
    }


def test_the_book_s_own_links_are_collected(html):
    found = links.collect(html)
    dois = set(re.findall(r"doi\s*=\s*\{(.+?)\}", (ROOT / "book" / "references.bib").read_text(encoding="utf-8")))
    assert dois
    assert {d for d in dois if f"https://doi.org/{d}" not in found} == set()
    assert any(page.startswith("notebooks/") for pages in found.values() for page in pages)


@pytest.mark.parametrize(
    ("status", "code", "said"), [("working", 0, "1 answers"), ("broken", 1, "in book/cite.html")]
)
def test_the_report(monkeypatch, capsys, status, code, said):
    monkeypatch.setattr(links, "build", lambda **_: 0)
    monkeypatch.setattr(links, "collect", lambda html: {"https://a.example/": ["book/cite.html"]})
    monkeypatch.setattr(links, "ask", lambda found: {"https://a.example/": (status, "404 Client Error")})
    assert links.main() == code
    told = capsys.readouterr()
    assert said in told.out
    assert ("online?" in told.err) == bool(code)

"""The built pages without a browser, and the checker that looks at them."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "book" / "_scripts"), str(ROOT / "book" / "_ext")]

import build  # noqa: E402
import layers  # noqa: E402
import pages  # noqa: E402
import repo  # noqa: E402


def test_nothing_is_wrong_with_the_pages(html):
    assert pages.problems(html) == []


def test_every_chapter_has_its_page_and_its_card(html):
    intro = pages.Page(html / "book" / "intro.html")
    for name in repo.chapters():
        assert (html / "notebooks" / f"{name}.html").is_file()
        assert f"../notebooks/{name}.html" in intro.links


def test_a_page_its_sidebar_and_its_neighbours_number_chapters_as_their_files_do(html):
    import re

    for name in repo.chapters():
        number, title = name[:2], repo.chapter_title(repo.load(name))
        text = (html / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(r"<h1>([^<]+)<", text)[1] == f"{number} · {title}"
        shown = re.findall(r'href="(?:\.\./notebooks/)?(\d\d)_\w+\.html"[^>]*>\s*(?:<[^>]+>\s*)*(\d\d) · ', text)
        assert {number for number, _ in shown} >= {other[:2] for other in repo.chapters() if other != name}
        assert all(file == said for file, said in shown)
    cards = re.findall(r'class="n">(\d\d)</span><span class="t">([^<]+)<', (html / "book" / "intro.html").read_text())
    assert [number for number, _ in cards] == [name[:2] for name in repo.chapters()]
    assert not any("·" in title for _, title in cards)


def test_launch_buttons_lead_to_the_address_and_are_left_out_while_there_is_none(html):
    buttons = {
        page.path.stem: {a for a in page.links if "colab.research" in a or "mybinder" in a}
        for page in pages.read(html).values()
    }
    wanted = {name: {url} for name in repo.chapters() if (url := repo.colab_url(name))}
    assert {name: found for name, found in buttons.items() if found} == wanted


def test_the_page_draws_the_library_as_it_is(html):
    edges = layers.imports(ROOT / "idm_lib")
    text = (html / "book" / "architecture.html").read_text(encoding="utf-8")
    assert layers.svg(edges) in text
    assert "arc up" not in layers.svg(edges)


def test_the_api_page_has_every_public_name(html):
    import idm_lib

    ids = pages.Page(html / "book" / "api.html").ids
    assert [name for name in idm_lib.__all__ if f"idm_lib.{name}" not in ids] == []


def test_no_markup_is_left_in_the_api_page(html):
    text = re.sub(r"<[^>]+>", "", (html / "book" / "api.html").read_text(encoding="utf-8").partition("<main")[2])
    assert re.findall(r".{0,40}``.{0,40}|.{0,20}:(?:class|func|meth|mod):`.{0,40}", text) == []


GOOD = "<html><body><h1 id='top'>x</h1><a href='#top'>up</a><img src='a.webp' alt='a grey square'></body></html>"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD, None),
        (GOOD.replace("alt='a grey square'", ""), "no alt text"),
        (GOOD.replace("a grey square", "a.webp"), "no alt text"),
        (GOOD + "<svg role='img'></svg>", "no alt text"),
        (GOOD.replace("a.webp", "b.webp"), "b.webp is missing"),
        (GOOD.replace("#top", "#bottom"), "whose place does not exist"),
        (GOOD.replace("#top", "other.html"), "which does not exist"),
        (GOOD.replace("<h1", "<script src='https://cdn.example/x.js'></script><h1"), "from elsewhere"),
        (GOOD.replace("<h1", "<link rel='stylesheet' href='//cdn.example/x.css'><h1"), "from elsewhere"),
        (GOOD + "x" * pages.MAX_PAGE_BYTES, "a page may have"),
        (GOOD + "x" * (pages.MAX_PAGE_BYTES - 100), "a page may have"),  # only with its picture
    ],
)
def test_the_checker_finds_each_fault(tmp_path, text, complaint):
    (tmp_path / "index.html").write_text(text)
    (tmp_path / "a.webp").write_bytes(b"x" * 200)
    found = pages.problems(tmp_path)
    assert (found == []) if complaint is None else (len(found) == 1 and complaint in found[0])


@pytest.mark.parametrize(
    "alt", [None, "", "  ", "image", "Figure", "figure 3", "an image", "The picture.", "…", "12"]
)
def test_words_that_say_nothing(alt):
    assert pages.says_nothing(alt)


@pytest.mark.parametrize(
    "alt", ["a.webp", "../_images/01_12_0.png", "_images/8f3a", "photo_of_the_day", "my photo.JPG"]
)
def test_the_name_of_a_file_says_nothing(alt):
    assert pages.says_nothing(alt)
    assert pages.says_nothing("Teaser", "../_static/teaser.webp")


@pytest.mark.parametrize(
    "alt", ["portrait", "MRI", "T1", "mask 1", "u at t = 3", "stream 2", "A⁺y", "after: 30.2 dB"]
)
def test_words_that_say_something(alt):
    assert not pages.says_nothing(alt, "data:image/webp;base64,AAAA")


def test_no_pages_is_a_fault(tmp_path):
    assert pages.problems(tmp_path)


def test_a_failing_cell_and_a_broken_budget_fail_the_build(tmp_path, capsys):
    import nbformat

    def write(code: str, seconds: float) -> Path:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.metadata["idm"] = {"budget": {"seconds": seconds, "gib": 8.0}}
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = tmp_path / "99_trial.ipynb"
        nbformat.write(notebook, path)
        return path

    assert build.execute_one(write("assert 1 + 1 == 2", 60)) == 0
    assert build.execute_one(write("assert 1 + 1 == 3", 60)) == 1
    assert "assert 1 + 1 == 3" in capsys.readouterr().err
    assert build.execute_one(write("import sys; print('oops', file=sys.stderr)", 60)) == 1
    assert build.execute_one(write("pass", 0.001)) == 1
    assert "budget" in capsys.readouterr().err

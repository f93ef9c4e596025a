"""Glossary, changelog and citation: what these pages say agrees with the rest of the book."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_string

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "book" / "_scripts"), str(ROOT / "book" / "_ext")]

import citation  # noqa: E402
import repo  # noqa: E402

GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^(\S[^\n]*)\n  (\S[^\n]*)$", GLOSSARY, flags=re.M)
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_every_glossary_entry_is_there_once():
    terms = [term for term, _ in ENTRIES]
    assert len(terms) >= 40
    assert len(set(terms)) == len(terms)
    assert len(terms) == len(re.findall(r"^  \S", GLOSSARY, flags=re.M))


@pytest.mark.parametrize(("term", "meaning"), ENTRIES, ids=[term for term, _ in ENTRIES])
def test_the_chapter_that_an_entry_names_uses_the_word(term, meaning):
    chapter = re.search(r"\[Chapter (\d+)\]\(\.\./notebooks/(\w+)\.ipynb\)$", meaning)
    if chapter is None:
        return
    assert int(chapter[2][:2]) == int(chapter[1])
    text = " ".join(cell.source for cell in repo.load(chapter[2]).cells if cell.cell_type == "markdown")
    stem = re.sub(r"(?:ing|ion|ed|e|y)$", "", term.lower())
    assert stem in text.lower().replace("\n", " "), f"chapter {chapter[2]} never says {term!r}"


def test_the_glossary_page_has_every_term(html):
    text = (html / "book" / "glossary.html").read_text(encoding="utf-8")
    assert text.count('id="term-') == len(ENTRIES)


def test_citation_is_bibtex_and_says_what_the_project_says():
    entries = parse_string(citation.bibtex(CITATION), "bibtex").entries
    assert list(entries) == ["idm_lib", "chen2025"]
    assert entries["idm_lib"].fields["version"] == str(CITATION["version"])
    article = entries["chen2025"]
    assert article.fields["doi"] == CITATION["references"][0]["doi"]
    assert len(article.persons["author"]) == len(CITATION["references"][0]["authors"])
    assert article.persons["author"][0].last_names == ["Chen"]


def test_citation_agrees_with_the_bibliography():
    known = parse_string((ROOT / "book" / "references.bib").read_text(encoding="utf-8"), "bibtex").entries
    article = parse_string(citation.bibtex(CITATION), "bibtex").entries["chen2025"]
    for field in ("journal", "volume", "number", "year", "doi"):
        assert article.fields[field] == known["chen2025idm"].fields[field]


def test_the_pages_show_the_changelog_and_the_citation(html):
    version = re.search(r"^## (\d[\w.]*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)[1]
    assert version in (html / "book" / "changelog.html").read_text(encoding="utf-8")
    cite = re.sub(r"<[^>]+>", "", (html / "book" / "cite.html").read_text(encoding="utf-8"))
    assert CITATION["references"][0]["doi"] in cite

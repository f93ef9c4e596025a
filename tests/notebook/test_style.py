"""Every committed chapter: executed, in order, complete, and written to the book's rules."""

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_scripts"))

import readme  # noqa: E402
import repo  # noqa: E402
import source  # noqa: E402

CHAPTERS = sorted(p.stem for p in repo.NOTEBOOKS.glob("*.ipynb"))
FREE_SECTIONS = {"Exercises", "Recap", "Further reading"}
# A number with a unit of something that is measured. Prose may not hold one: it would be typed, not computed.
TYPED_RESULT = re.compile(
    r"\d\s*(?:dB|GiB|MiB|KiB|GB|MB|kB|ms|µs|GFLOPs?|TFLOPs?)\b"
    r"|\d\s*(?:seconds?|minutes?|hours?)\b|\d\s*(?:times|×)\s+(?:faster|slower|less|more|fewer|larger|smaller)"
)

pytestmark = pytest.mark.parametrize("name", CHAPTERS)


def _prose(cell) -> str:
    """A text cell without its code and formulas."""
    text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
    return re.sub(r"`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)


def _authored(notebook, kind: str) -> list:
    return [c for c in notebook.cells if c.cell_type == kind and "idm" not in c.metadata]


def test_every_code_cell_is_executed_in_order(name):
    cells = [c for c in repo.load(name).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")


def test_it_has_outputs_to_compare(name):
    notebook = repo.load(name)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert sum(bool(c.outputs) for c in code) >= len(code) / 3, "a cleared notebook proves nothing"
    for cell in code:
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert cell.outputs, "a cell to be compared has nothing to compare with"


def test_no_tag_that_hides_a_failure(name):
    for cell in repo.load(name).cells:
        tags = set(cell.metadata.get("tags", []))
        assert not tags & {"raises-exception", "nbval-raises-exception", "nbval-ignore-output"}
        assert ("skip-execution" in tags) == ("nbval-skip" in tags)


def test_layout(name):
    notebook = repo.load(name)
    headings = [h for c in notebook.cells if c.cell_type == "markdown" for h in re.findall(r"^# .+", _prose(c), re.M)]
    assert len(headings) == 1
    assert notebook.cells[0].source.startswith("# ")
    sections = re.findall(r"^## (.+)$", "\n\n".join(_prose(c) for c in _authored(notebook, "markdown")), flags=re.M)
    assert [s for s in sections if s in FREE_SECTIONS] == ["Exercises", "Recap", "Further reading"]


def test_text_stands_before_code(name):
    kinds = [c.cell_type for c in repo.load(name).cells if c.metadata.get("idm") != "install"]
    touching = [i for i, pair in enumerate(pairwise(kinds)) if pair == ("code", "code")]
    assert not touching, f"cells {touching} are code followed by code"


def test_cells_are_short(name):
    for cell in repo.load(name).cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= 25, f"{len(lines)} lines:\n{cell.source}"


def test_every_section_with_code_asserts_something(name):
    section, asserted = None, {}
    for cell in repo.load(name).cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^## (.+)$", cell.source, flags=re.M):
                section = heading
        elif section and section not in FREE_SECTIONS and cell.metadata.get("idm") != "install":
            tree = ast.parse(cell.source)
            found = any(isinstance(n, ast.Assert) and not isinstance(n.test, ast.Constant) for n in ast.walk(tree))
            asserted[section] = asserted.get(section, False) or found
    assert asserted
    assert all(asserted.values()), [s for s, found in asserted.items() if not found]


def test_reader_predicts_before_running(name):
    cells = repo.load(name).cells
    asked = [i for i, c in enumerate(cells) if c.cell_type == "markdown" and "**Predict, then run.**" in c.source]
    assert asked
    for index in asked:
        assert cells[index + 1].cell_type == "code"


def test_prose_holds_no_typed_result(name):
    for cell in _authored(repo.load(name), "markdown"):
        found = TYPED_RESULT.search(_prose(cell))
        assert found is None, f"{found[0]!r} is typed; compute it with nb.say or read it with nb.recorded"


def test_exercises_are_the_library_s(name):
    notebook = repo.load(name)
    kinds = [c.metadata["idm"].split()[1] for c in notebook.cells if c.metadata.get("idm", "").endswith(" task")]
    assert 3 <= len(kinds) <= 6
    assert kinds == [f"{name[:2]}.{i + 1}" for i in range(len(kinds))]
    for identifier in kinds:
        shown = [c for c in notebook.cells if c.metadata.get("idm", "").startswith(f"exercise {identifier} ")]
        wanted = source.exercise_cells(identifier)
        assert [c.source for c in shown] == [c.source for c in wanted], f"run: make notebook NAME={name}"
        assert any("○ Exercise" in output.get("text", "") for c in shown for output in c.get("outputs", []))


def test_header_is_generated_from_measurements(name):
    notebook = repo.load(name)
    head = notebook.metadata["idm"]
    (cell,) = [c for c in notebook.cells if c.metadata.get("idm") == "header"]
    assert cell.source == source.header(notebook, name), f"run: make notebook NAME={name}"
    assert set(head) >= source.HEAD_KEYS
    assert 0 < head["measured"]["tiny"]["seconds"] <= head["budget"]["seconds"]
    assert head["measured"]["tiny"]["gib"] <= head["budget"]["gib"]


def test_links_lead_to_chapters_and_entries_that_exist(name):
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    text = "\n".join(c.source for c in _authored(repo.load(name), "markdown"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            key = re.sub(r"^https?://(dx\.)?doi\.org/", "", target)
            assert key in bibliography, f"{target} is not in book/references.bib"
        elif not target.startswith("#"):
            assert (repo.NOTEBOOKS / target.split("#")[0]).is_file(), f"{target} does not exist"
    reading = text.partition("## Further reading")[2]
    assert "](https://" in reading


def test_symbols_are_not_images(name):
    for cell in repo.load(name).cells:
        assert "![" not in cell.source, "a picture in Markdown has no caption; use nb.show"


def test_a_figure_has_a_caption_and_words(name):
    for cell in repo.load(name).cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert not {"image/png", "image/svg+xml", "image/jpeg"} & set(data), "use nb.figure or nb.show"
            for tag in re.findall(r"<img[^>]*>", data.get("text/html", "")):
                alt = re.search(r'alt="([^"]*)"', tag)
                assert alt
                assert alt[1].strip()


def test_it_is_in_the_table_of_contents_and_the_readme(name):
    assert name in repo.chapters()
    text = repo.README.read_text(encoding="utf-8")
    assert readme.BEGIN in text
    assert f"notebooks/{name}.ipynb" in text
    assert readme.with_table(text) == text, "run: make readme"


def test_file_is_small_and_clean(name):
    path = repo.NOTEBOOKS / f"{name}.ipynb"
    assert path.stat().st_size < 3_000_000
    text = path.read_text(encoding="utf-8")
    for trace in ("/home/", "/root/", "/Users/", "/tmp/", "site-packages"):
        assert trace not in text, f"{trace} is a machine's own path"


def test_scratch_file_and_notebook_are_inverse(name):
    notebook = repo.load(name)
    again = source.parse(source.unparse(notebook), name)
    generated = {"header", "install"}
    kept = [c for c in notebook.cells if c.metadata.get("idm") not in generated]
    assert [c.source for c in again.cells] == [c.source for c in kept]

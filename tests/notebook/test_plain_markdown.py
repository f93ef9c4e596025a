"""Chapters are read in Colab and on GitHub too: valid notebooks, whose text is Markdown that all three render."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_scripts"))

import repo  # noqa: E402

CHAPTERS = sorted(p.stem for p in repo.NOTEBOOKS.glob("*.ipynb"))
# What one of the three shows raw or drops: before code is taken out, outside code and formulas, and outside code.
FENCED = r"^\s*(?:`{3,}|~{3,}|:{3,})\{\w+"
RAW = {
    "a directive": r"^\s*:{3,}",
    "a role": r"\{[a-z][\w:.+-]*\}`",
    "a target": r"^\s*\([\w.:-]+\)=\s*$",
    "a comment of MyST": r"^%",
    "a block break": r"^\+\+\+",
    "a substitution": r"\{\{.*?\}\}",
    "attributes": r"[\])]\{[.#:\w]",
    "a definition list": r"^: +\S",
    "a footnote": r"\[\^\w+\]",
    "HTML that is taken out": r"</?(?:style|script|iframe|object|embed|form|input|button|svg|link|meta)\b",
    "an attached picture": r"\(attachment:",
    "a formula without dollars": r"^\s*\\(?:begin\{|\[)|\\\(",
}
MATH = {
    "a numbered formula": r"\$\$\s*\([\w:.-]+\)\s*$",
    "a definition or a package of TeX": r"\\(?:newcommand|def|require|DeclareMathOperator|eqref|label)\b",
}


def shown_raw(text: str) -> list[str]:
    """What of a text cell Colab or GitHub would show raw."""
    found = [("a directive", re.search(FENCED, text, flags=re.M))]
    text = re.sub(r"^\s*(`{3,}|~{3,})[^`{]*\n.*?^\s*\1\s*$", "", text, flags=re.S | re.M)
    # A role is a code span with a name before it: of the span only the backticks stay.
    text = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "``", text, flags=re.S)
    prose = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)
    found += [(what, re.search(rule, prose, flags=re.M)) for what, rule in RAW.items()]
    found += [(what, re.search(rule, text, flags=re.M)) for what, rule in MATH.items()]
    return [f"{what}: {match[0].strip()}" for what, match in found if match]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_is_a_valid_notebook(name):
    notebook = nbformat.from_dict(repo.load(name))
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3", "the one kernel that Colab has"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", CHAPTERS)
def test_its_text_is_rendered_everywhere(name):
    for cell in repo.load(name).cells:
        if cell.cell_type == "markdown":
            assert shown_raw(cell.source) == []
        for output in cell.get("outputs", []):
            assert shown_raw(output.get("data", {}).get("text/markdown", "")) == []


@pytest.mark.parametrize(
    "text",
    [
        ":::{note}\nx\n:::",
        "```{figure} a.png\n```",
        "~~~{note}\nx\n~~~",
        "as {cite}`chen2025` says",
        "{py:class}`~idm_lib.MRI`",
        "(a-place)=\n# Title",
        "% nobody sees this",
        "a {{ name }} here",
        "[a span]{.red}",
        "![a](b.png){width=50%}",
        "Term\n: what it means",
        "so it is[^1]",
        "<style>p {color: red}</style>",
        "<input type='range'>",
        "![x](attachment:x.png)",
        "\\begin{align}x\\end{align}",
        "\\(x\\)",
        "$$x = y$$ (eq:one)",
        "$\\newcommand{\\R}{\\mathbb R}$",
    ],
)
def test_what_is_shown_raw_is_found(text):
    assert shown_raw(text)


@pytest.mark.parametrize(
    "text",
    [
        "`{cite}` is a role, and so is `` {ref}`x` ``",
        "```python\nx = {'a': 1}\n% matplotlib\n: 3\n```",
        "$\\mathbb{E}[x]{y}$ and $$\n\\begin{aligned}x_{t}\\end{aligned}\n$$",
        "<details><summary>Hint</summary>\n\n**x**\n\n</details>",
        "a set {a, b} with `code`, then [a link](other.ipynb#x)",
        "| a | b |\n|---|:--|\n| 1 | 2 |",
    ],
)
def test_what_all_render_passes(text):
    assert shown_raw(text) == []

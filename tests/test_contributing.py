"""CONTRIBUTING.md: its code runs, and what it names exists."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch

import idm_lib as idm
from idm_lib import notebook as nb
from idm_lib.operators import dot_test, operator_from_config, pseudo_inverse_test

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_scripts"))

import source  # noqa: E402

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))


def _code(holds: str) -> dict:
    (block,) = (b for b in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.S | re.M) if holds in b)
    namespace: dict = {}
    exec(compile(block, "CONTRIBUTING.md", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("first", [0, 1])
def test_the_operator_keeps_what_operators_promise(first):
    op = _code("class Interlaced")["Interlaced"]((7, 6), first)
    matrix = op.A(torch.eye(42, dtype=torch.float64).reshape(42, 1, 7, 6)).T  # (M, HW)
    assert matrix.shape == (op.measurements, 42)
    assert torch.equal(matrix @ matrix.T, torch.eye(op.measurements, dtype=torch.float64))
    assert dot_test(op, (2, 1, 7, 6)) < 1e-12
    assert pseudo_inverse_test(op, (2, 1, 7, 6)) < 1e-12
    x = torch.rand(1, 1, 7, 6)
    assert torch.equal(operator_from_config(op.config()).A(x), op.A(x))


def test_the_exercise_accepts_its_solution_and_refuses_its_wrong_answers():
    names = _code("EXERCISE = Exercise")
    exercise = names["EXERCISE"]
    assert exercise.run(lambda factor: 10 * math.log10(factor)).passed
    assert exercise.wrong
    for wrong in exercise.wrong:
        verdict = exercise.run(wrong)
        assert not verdict.passed
        assert len(verdict.message) > 20


def test_the_chapter_can_be_assembled():
    scratch = re.search(r"^````markdown\n(.*?)^````$", TEXT, flags=re.S | re.M)[1]
    notebook = source.parse(scratch, "06_couplings")
    kinds = [cell.metadata.get("idm") for cell in notebook.cells]
    assert "exercise 06.1 stub" in kinds
    assert [cell.cell_type for cell in notebook.cells][:2] == ["markdown", "code"]


def test_the_diagram_can_be_stepped_through(capsys):
    chain = idm.ReversibleChain([idm.WiredCoupling(torch.tanh) for _ in range(3)])
    frames = _code("def along")["along"](chain)
    assert [frame.svg.count("stroke-dasharray") for frame in frames] == [2, 1, 0]
    nb.stepped(
        frames, name="a chain", caption="A stream on its way.", alt="Three boxes, of which more and more are full."
    )
    assert "Bodies that have run: 3 of 3." in capsys.readouterr().out


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_what_a_page_names_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][a-z-]+)", "\n".join(re.findall(r"`[^`]+`|^make .+$", text, flags=re.M))):
        assert target in TARGETS, f"{page}: make {target}"
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|py|txt|toml|cff|yml))`", text):
        assert path.startswith("_build/") or (ROOT / path).exists(), f"{page}: {path}"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), f"{page}: {link}"

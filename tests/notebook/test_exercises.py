"""Every exercise: the worked solution passes, the stub fails with its hint, each wrong answer fails."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import idm_lib as idm
from idm_lib import notebook as nb
from idm_lib.errors import InputError
from idm_lib.notebook.exercise import Exercise, exercises, find, require, without_markup

CHAPTERS = sorted(p.stem[2:] for p in (Path(nb.__file__).parent / "exercises").glob("ch*.py"))
ALL = [(f"{c}.{i + 1}", e) for c in CHAPTERS for i, e in enumerate(exercises(c))]
WRONG = [(identifier, e, w) for identifier, e in ALL for w in e.wrong]


def _namespace() -> dict:
    return {"math": math, "np": np, "torch": torch, "F": F, "idm": idm, "nb": nb, "Callable": Callable}


@pytest.mark.parametrize(("identifier", "exercise"), ALL, ids=[i for i, _ in ALL])
def test_worked_solution_passes_as_it_is_shown(identifier, exercise, capsys):
    namespace = _namespace()
    exec(compile(exercise.solution_source, f"solution {identifier}", "exec"), namespace)
    start = time.monotonic()
    nb.check(identifier, namespace[exercise.function_name])
    assert capsys.readouterr().out.startswith(f"✓ Exercise {identifier}")
    assert time.monotonic() - start < 20  # a reader waits for the checker


@pytest.mark.parametrize(("identifier", "exercise"), ALL, ids=[i for i, _ in ALL])
def test_a_stub_is_not_started_and_its_hint_stays_folded(identifier, exercise, capsys):
    namespace = _namespace()
    exec(compile(exercise.stub_source, f"stub {identifier}", "exec"), namespace)
    nb.check(identifier, namespace[exercise.function_name])
    out = capsys.readouterr().out
    assert out.startswith(f"○ Exercise {identifier}: not started")
    assert exercise.function_name in out
    assert "Hint" not in out
    assert len(exercise.hint) > 20
    assert not set("$`") & set(without_markup(exercise.hint))


@pytest.mark.parametrize(("identifier", "exercise", "wrong"), WRONG, ids=[f"{i} {w.__name__}" for i, _, w in WRONG])
def test_wrong_answer_fails_and_is_told_why(identifier, exercise, wrong):
    verdict = exercise.run(wrong)
    assert not verdict.passed
    assert verdict.started
    assert len(verdict.message) > 20


def test_a_wrong_answer_is_given_the_hint_as_plain_text(capsys):
    exercise = find("06.1")
    nb.check("06.1", exercise.wrong[0])
    assert f"Hint: {without_markup(exercise.hint)}\n" in capsys.readouterr().out
    assert (
        without_markup("Start at `z`: *this* is $A^+$ of a * b, p**k.") == "Start at z: this is A^+ of a * b, p**k."
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_number_of_exercises(chapter):
    assert 3 <= len(exercises(chapter)) <= 6
    assert all(e.wrong for e in exercises(chapter)), "each exercise needs a plausible wrong answer"


def _double(value: int) -> int:
    """Return twice the value."""
    return 2 * value


def _check_double(answer: Callable[[int], int]) -> None:
    require(answer(3) == 6, "three should become six.")


EXAMPLE = Exercise("Double", "Double it.", _double, _check_double, "Multiply by two, say.", ())


def test_a_checker_never_raises():
    def raises(value):
        raise KeyError("gone")

    def returns_nothing(value):
        len(str(value))

    assert EXAMPLE.run(_double).passed
    assert "KeyError" in EXAMPLE.run(raises).message
    assert "returned None" in EXAMPLE.run(returns_nothing).message
    assert "expected the function" in EXAMPLE.run(7).message
    assert "TypeError" in EXAMPLE.run(lambda: 6).message
    assert EXAMPLE.run(lambda value: value).message == "three should become six."


def test_stub_keeps_the_signature_and_the_docstring_only():
    assert EXAMPLE.stub_source == (
        'def _double(value: int) -> int:\n    """Return twice the value."""\n    ...  # your code here'
    )


@pytest.mark.parametrize("identifier", ["99.1", "01.0", "01.99", "01", "one"])
def test_unknown_exercise_is_named(identifier):
    with pytest.raises(InputError, match="expected"):
        find(identifier)

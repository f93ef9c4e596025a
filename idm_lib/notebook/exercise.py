"""Exercises that check themselves.

An exercise is a worked solution with everything round it: the task, a checker that says what is wrong, a hint,
and wrong answers that a reader might plausibly give. The stub that the reader fills in is the solution's own
signature and docstring. Each chapter's exercises live in ``idm_lib.notebook.exercises.chNN``.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from idm_lib.errors import InputError


class NotYetError(Exception):
    """An answer is wrong; the message says how."""


class _NotStartedError(Exception):
    """The stub is still in place."""


def require(condition: Any, message: str) -> None:
    """Fail the exercise unless ``condition`` holds.

    Args:
        condition: Anything with a truth value.
        message: What is wrong with the answer, in a sentence that helps.
    """
    if not condition:
        raise NotYetError(message)


@dataclass(frozen=True)
class Verdict:
    """Whether an answer passed, and what to tell the reader."""

    passed: bool
    started: bool
    message: str


@dataclass(frozen=True)
class Exercise:
    """One exercise; see the module's docstring.

    Attributes:
        title: A few words.
        task: What to do and why, in Markdown.
        solution: The worked solution; its source is shown folded in the page.
        check: Called with the reader's function; fails through ``require``.
        hint: A sentence or two that help without giving the answer away.
        wrong: Functions that the checker must refuse.
    """

    title: str
    task: str
    solution: Callable[..., Any]
    check: Callable[[Callable[..., Any]], None]
    hint: str
    wrong: tuple[Callable[..., Any], ...]

    @property
    def function_name(self) -> str:
        """Name of the function that the reader writes."""
        return self.solution.__name__

    @property
    def solution_source(self) -> str:
        """Source of the worked solution."""
        return textwrap.dedent(inspect.getsource(self.solution)).rstrip()

    @property
    def stub_source(self) -> str:
        """The solution's signature and docstring, with dots for a body."""
        source = self.solution_source
        function = ast.parse(source).body[0]
        assert isinstance(function, ast.FunctionDef)
        if ast.get_docstring(function) is None:
            raise InputError(f"expected a docstring in {self.function_name}, got none; say there what to return")
        kept = source.splitlines()[: function.body[0].end_lineno]
        return "\n".join([*kept, "    ...  # your code here"])

    def run(self, answer: Callable[..., Any]) -> Verdict:
        """Check an answer. Never raises: whatever goes wrong becomes a message for the reader."""
        if not callable(answer):
            return Verdict(False, True, f"expected the function {self.function_name}, got {type(answer).__name__}.")

        def guarded(*args: Any, **kwargs: Any) -> Any:
            value = answer(*args, **kwargs)
            if value is None:
                if _is_stub(answer):
                    raise _NotStartedError
                raise NotYetError("your function returned None: does every path end in a return?")
            return value

        guarded.__wrapped__ = answer  # type: ignore[attr-defined]
        try:
            self.check(guarded)
        except _NotStartedError:
            message = f"not started: replace the dots in {self.function_name} by your code and run the cell again."
            return Verdict(False, False, message)
        except NotYetError as problem:
            return Verdict(False, True, str(problem))
        except Exception as problem:
            return Verdict(False, True, f"your function raised {type(problem).__name__}: {problem}")
        return Verdict(True, True, "")


def _is_stub(function: Callable[..., Any]) -> bool:
    """Whether a function does nothing at all: it has no names to call and no constant but None and its docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and not code.co_names and set(code.co_consts) <= {None, function.__doc__}


def exercises(chapter: str) -> tuple[Exercise, ...]:
    """Return the exercises of a chapter.

    Args:
        chapter: Two digits, such as "01".

    Raises:
        InputError: If that chapter has none.
    """
    try:
        module = import_module(f"idm_lib.notebook.exercises.ch{chapter}")
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.endswith(f"ch{chapter}"):
            raise InputError(f"expected a chapter with exercises, got {chapter!r}; write it as '01'") from None
        raise
    return module.EXERCISES


def find(identifier: str) -> Exercise:
    """Return exercise ``"01.2"``: the second of chapter 01.

    Raises:
        InputError: If there is no such exercise.
    """
    chapter, _, number = identifier.partition(".")
    known = exercises(chapter)
    if not number.isdigit() or not 1 <= int(number) <= len(known):
        raise InputError(
            f"expected an exercise from {chapter}.1 to {chapter}.{len(known)}, got {identifier!r}; see its heading"
        )
    return known[int(number) - 1]


def check(identifier: str, answer: Callable[..., Any]) -> None:
    """Check the reader's answer and print the verdict; never raises for a wrong one, so that Run All completes.

    An answer that is wrong is given the hint; one that was not begun is not, for the hint is folded below it.

    Args:
        identifier: Such as "01.2".
        answer: The reader's function.
    """
    exercise = find(identifier)
    verdict = exercise.run(answer)
    if verdict.passed:
        print(f"✓ Exercise {identifier}: {exercise.title}. Correct.")
    elif verdict.started:
        print(f"✗ Exercise {identifier}: {verdict.message}\n  Hint: {without_markup(exercise.hint)}")
    else:
        print(f"○ Exercise {identifier}: {verdict.message}")


def without_markup(text: str) -> str:
    """Markdown as plain text: the signs of formulas, code and emphasis left out, a product's asterisk kept."""
    return re.sub(r"(?<![\w*])\*(\w[^*]*?)\*(?![\w*])", r"\1", re.sub(r"[$`]", "", text))

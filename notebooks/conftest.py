"""Close the ways in which re-running a notebook can pass though something is wrong."""

import pytest

_failed: set[str] = set()


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> None:
    """Remember the notebook in which a cell failed."""
    if call.when == "call" and call.excinfo is not None:
        _failed.add(str(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail the cells after a failed one: they would run on a broken state."""
    if str(item.path) in _failed:
        pytest.fail("an earlier cell of this notebook failed", pytrace=False)

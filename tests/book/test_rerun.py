"""``make rerun``: all chapters in order, one commit, and never with somebody's unfinished work in it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_scripts"))

import rerun  # noqa: E402
from execute import ChapterError  # noqa: E402

NAMES = ["00_first", "01_second"]


def _git(root, *words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *words], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "notebooks").mkdir()
    for name in NAMES:
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("before")
    (tmp_path / "README.md").write_text("before")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "-m", "start")
    return tmp_path


def _executes(root, done):
    def execute(name):
        done.append(name)
        (root / "notebooks" / f"{name}.ipynb").write_text("after")
        return name

    return execute


def test_every_chapter_in_order_and_one_commit(repository):
    done = []
    assert rerun.rerun(NAMES, _executes(repository, done), repository) == 0
    assert done == NAMES
    assert _git(repository, "log", "--format=%s").splitlines() == ["2 chapters executed", "start"]
    assert _git(repository, "status", "--porcelain") == ""
    assert _git(repository, "show", "--name-only", "--format=").split() == [f"notebooks/{n}.ipynb" for n in NAMES]


@pytest.mark.parametrize("name", ["README.md", "new.txt"])
def test_a_tree_with_changes_is_refused_before_anything_runs(repository, name, capsys):
    (repository / name).write_text("mine")
    done = []
    assert rerun.rerun(NAMES, _executes(repository, done), repository) == 1
    assert done == []
    assert name in capsys.readouterr().err
    assert (repository / name).read_text() == "mine"


def test_a_failing_chapter_commits_nothing(repository, capsys):
    def execute(name):
        if name == NAMES[1]:
            raise ChapterError(f"{name}, cell 3: wrong")
        return _executes(repository, [])(name)

    assert rerun.rerun(NAMES, execute, repository) == 1
    assert "01_second, cell 3" in capsys.readouterr().err
    assert _git(repository, "log", "--format=%s").split() == ["start"]


def test_a_failing_benchmark_commits_nothing_and_runs_no_chapter(repository, capfd):
    done = []
    assert rerun.rerun(NAMES, _executes(repository, done), repository, record=True) == 1  # it has no benchmarks/
    assert done == []
    assert "A benchmark failed" in capfd.readouterr().err


def test_nothing_new_is_no_commit(repository):
    assert rerun.rerun(NAMES, lambda name: name, repository) == 0
    assert _git(repository, "log", "--format=%s").split() == ["start"]

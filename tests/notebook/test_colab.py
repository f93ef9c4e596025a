"""Colab: the install cell brings the library and leaves everything else as it is; GPU chapters ask for a GPU."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_scripts"))

import readme  # noqa: E402
import repo  # noqa: E402
import source  # noqa: E402

URL = "https://github.com/owner/name"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(r) for r in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"])]
CHAPTERS = sorted(p.stem for p in repo.NOTEBOOKS.glob("*.ipynb"))


def on_colab() -> dict[str, Version]:
    lines = (ROOT / "book" / "_scripts" / "colab.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.fixture
def address(monkeypatch):
    """The book as it is once the repository has an address."""
    settings = repo.config() | {"repository": {"url": URL, "branch": "main"}}
    monkeypatch.setattr(repo, "config", lambda: settings)


class Shell:
    """Stands for Colab's: notes what the cell asks of it."""

    def __init__(self, cwd: Path) -> None:
        self.commands, self.magics, self.cwd = [], [], cwd

    def system(self, command: str) -> None:
        self.commands.append(command)
        if command.startswith("git clone"):
            (self.cwd / command.split()[-1]).mkdir()

    def run_line_magic(self, name: str, line: str) -> None:
        self.magics.append(f"{name} {line}")


def run_cell(monkeypatch, tmp_path, environment: dict[str, str]) -> Shell:
    code = TransformerManager().transform_cell(source.install_cell())
    shell = Shell(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exec(compile(code, "install cell", "exec"), {"get_ipython": lambda: shell})
    return shell


def installed(commands: list[str]) -> list[tuple[str, bool]]:
    """What pip is told to install, and whether without dependencies."""
    found = []
    for words in (shlex.split(c) for c in commands if "pip" in c):
        assert words[:2] == ["pip", "install"], words
        options = {word for word in words[2:] if word.startswith("-")}
        assert options <= {"--quiet", "--no-deps"}, f"{options}: --upgrade and the like replace what is there"
        found += [(word, "--no-deps" in options) for word in words[2:] if not word.startswith("-")]
    return found


def test_without_an_address_there_is_no_cell(monkeypatch):
    monkeypatch.setattr(repo, "config", lambda: {"repository": {"url": ""}})
    assert source.install_cell() is None
    assert repo.colab_url("01_measuring") is None


def test_elsewhere_than_on_colab_the_cell_does_nothing(address, monkeypatch, tmp_path):
    shell = run_cell(monkeypatch, tmp_path, {})
    assert (shell.commands, shell.magics) == ([], [])


def test_it_installs_the_library_and_touches_nothing_else(address, monkeypatch, tmp_path):
    shell = run_cell(monkeypatch, tmp_path, {"COLAB_RELEASE_TAG": "release-colab"})
    clone, *rest = shell.commands
    assert clone.split()[-2:] == [URL, "idm"]
    assert f"--branch v{PROJECT['version']}" in clone, "at a tag, so that book and library are of one release"
    (own, without), *others = installed(rest)
    assert (own, without) == ("./idm", True), "pip's resolver would replace torch and numpy"
    for name, alone in others:
        assert alone
        assert canonicalize_name(Requirement(name).name) not in on_colab(), f"Colab has {name} already"
    assert shell.magics[-1] == "cd -q idm/notebooks", "where the chapters find results/"


def test_a_restarted_runtime_installs_nothing_twice(address, monkeypatch, tmp_path):
    run_cell(monkeypatch, tmp_path, {"COLAB_RELEASE_TAG": "release-colab"})
    shell = run_cell(monkeypatch, tmp_path, {"COLAB_RELEASE_TAG": "release-colab"})
    assert shell.commands == []
    assert shell.magics[-1] == "cd -q idm/notebooks"


def test_what_colab_lacks_is_installed_and_only_that(address, monkeypatch, tmp_path):
    project = PROJECT | {"dependencies": [*PROJECT["dependencies"], "deepinv>=0.3"]}
    monkeypatch.setattr(repo, "_project", lambda: project)
    shell = run_cell(monkeypatch, tmp_path, {"COLAB_RELEASE_TAG": "release-colab"})
    assert installed(shell.commands) == [("./idm", True), ("deepinv>=0.3", True)]


@pytest.mark.parametrize("requirement", NEEDED, ids=str)
def test_what_colab_has_is_new_enough(requirement):
    version = on_colab().get(canonicalize_name(requirement.name))
    if version is None:
        assert str(requirement) in {str(Requirement(r)) for r in repo.missing_on_colab()}
    else:
        assert version in requirement.specifier, f"Colab has {requirement.name} {version}; {requirement} is asked for"


def test_the_list_names_what_must_not_be_touched():
    assert {"torch", "numpy", "torchvision", "triton", "scipy", "pillow", "matplotlib"} <= set(on_colab())


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_full_chapter_asks_for_a_gpu(name):
    metadata = repo.load(name).metadata
    if metadata["idm"]["full"]:
        assert metadata["accelerator"] == "GPU"
        assert metadata["colab"]["gpuType"] == "T4"
    else:
        assert "accelerator" not in metadata


def test_there_is_a_full_chapter():
    assert [name for name in CHAPTERS if repo.load(name).metadata["idm"]["full"]]


@pytest.mark.parametrize("name", CHAPTERS)
def test_with_an_address_every_chapter_gets_cell_and_link(address, name):
    notebook = repo.load(name)
    source.refresh(notebook, name)
    (cell,) = [c for c in notebook.cells if c.metadata.get("idm") == "install"]
    assert cell.source == source.install_cell()
    assert "remove-cell" in cell.metadata["tags"], "the built page has no use for it"
    first = next(c for c in notebook.cells if c.cell_type == "code")
    assert first is cell, "before anything is imported"
    (head,) = [c for c in notebook.cells if c.metadata.get("idm") == "header"]
    link = f"https://colab.research.google.com/github/owner/name/blob/main/notebooks/{name}.ipynb"
    assert f"({link})" in head.source
    assert f"[open]({link})" in readme.chapter_table()
    assert not re.search(r"pip install", head.source)

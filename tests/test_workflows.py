"""The workflows call what exists, with as few rights as they need; the oldest versions are those of the project."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))

workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def _load(path: Path) -> dict:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["on"] = found.pop(True)  # YAML 1.1 reads the key `on` as true
    return found


def _runs(path: Path) -> list[str]:
    return [step["run"] for job in _load(path)["jobs"].values() for step in job["steps"] if "run" in step]


def _uses(path: Path) -> list[str]:
    return [step["uses"] for job in _load(path)["jobs"].values() for step in job["steps"] if "uses" in step]


def missing(command: str) -> list[str]:
    """The make targets and scripts in a shell command that the repository does not have."""
    words = command.split()
    gone = [f"make {w}" for w in _targets(command) if w not in TARGETS]
    scripts = [w for w in words if re.fullmatch(r"[\w./-]+\.(py|sh)|\.ci/\w+", w)]
    return gone + [w for w in scripts if not (ROOT / w).is_file()]


def _targets(command: str) -> list[str]:
    found = []
    for line in command.splitlines():
        words = line.split()
        if "make" in words:
            found += [w for w in words[words.index("make") + 1 :] if "=" not in w and not w.startswith("-")]
    return found


def test_all_four_are_there():
    assert [path.stem for path in WORKFLOWS] == ["book", "release", "tests", "weekly"]


@workflows
def test_what_a_workflow_calls_exists(path):
    for command in _runs(path):
        assert missing(command) == []


def test_a_call_of_what_does_not_exist_is_found():
    assert missing("make tset") == ["make tset"]
    assert missing("make test DEPENDENCIES=oldest") == []
    assert missing("python .ci/absent.py v1") == [".ci/absent.py"]
    assert missing(".ci/absent") == [".ci/absent"]


@workflows
def test_jobs_end_by_themselves_and_actions_have_a_major_version(path):
    for job in _load(path)["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 90
    for action in _uses(path):
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action), action


@workflows
def test_one_release_of_an_action_everywhere(path):
    known = dict(a.split("@") for other in WORKFLOWS for a in _uses(other))
    assert all(known[name] == version for name, version in (a.split("@") for a in _uses(path)))


@workflows
def test_rights_are_the_least(path):
    found = _load(path)
    assert found["permissions"] == {"contents": "read"}
    for name, job in found["jobs"].items():
        actions = " ".join(step.get("uses", "") for step in job["steps"])
        allowed = {"contents": "read"}
        if "actions/deploy-pages" in actions:
            allowed = {"pages": "write", "id-token": "write"}
        elif "gh-action-pypi-publish" in actions:
            allowed = {"id-token": "write"}
        assert job.get("permissions", {"contents": "read"}) == allowed, name
        assert "secrets." not in yaml.safe_dump(job), f"{name} uses a secret; PyPI and Pages need none"


def test_tests_run_on_the_oldest_and_newest_python_and_dependencies():
    matrix = _load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"]["include"]
    allowed = Requirement("python" + PROJECT["requires-python"]).specifier
    assert {entry["dependencies"] for entry in matrix} == {"recorded", "oldest", "newest"}
    supported = [f"3.{minor}" for minor in range(8, 20) if Version(f"3.{minor}") in allowed]
    recorded = {entry["python"] for entry in matrix if entry["dependencies"] == "recorded"}
    assert recorded == {supported[0], supported[-1]}
    assert "make test" in _runs(ROOT / ".github" / "workflows" / "tests.yml")


def test_only_a_tag_is_published_and_only_if_it_is_the_version():
    release = _load(ROOT / ".github" / "workflows" / "release.yml")
    assert release["on"] == {"push": {"tags": ["v*"]}}
    script = str(ROOT / ".ci" / "version.py")
    good = subprocess.run([sys.executable, script, f"v{PROJECT['version']}"], capture_output=True, text=True)
    bad = subprocess.run([sys.executable, script, "v99.0.0"], capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert bad.returncode == 1
    assert "the tag is v99.0.0" in bad.stderr


def test_a_version_of_which_the_changelog_is_silent_is_not_published(tmp_path):
    complaint = runpy.run_path(str(ROOT / ".ci" / "version.py"))["complaint"]
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0\n")
    assert "no heading 0.2.0" in complaint("v0.2.0", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0\n")
    assert complaint("v0.2.0", tmp_path) is None


def test_the_oldest_versions_are_the_projects_lower_bounds():
    done = subprocess.run([sys.executable, str(ROOT / ".ci" / "oldest.py")], capture_output=True, text=True)
    printed = dict(line.split("==") for line in done.stdout.split())
    extras = PROJECT["optional-dependencies"].values()
    requirements = [Requirement(r) for r in [*PROJECT["dependencies"], *(r for extra in extras for r in extra)]]
    assert set(printed) == {r.name for r in requirements}
    for requirement in requirements:
        assert Version(printed[requirement.name]) in requirement.specifier
        lower = [s.version for s in requirement.specifier if s.operator == ">="]
        assert lower == [printed[requirement.name]]


@pytest.mark.parametrize("wrong", [["numpy"], ["numpy<3"], ["numpy>=1", "numpy>=2"]])
def test_a_requirement_without_one_lower_bound_is_refused(wrong):
    oldest = runpy.run_path(str(ROOT / ".ci" / "oldest.py"))["oldest"]
    with pytest.raises(ValueError, match="numpy"):
        oldest({"dependencies": wrong})


@pytest.mark.parametrize(
    ("choice", "option"),
    [("recorded", "--constraint constraints.txt"), ("oldest", "oldest.txt"), ("newest", "--upgrade")],
)
def test_make_installs_the_versions_asked_for(choice, option, tmp_path):
    command = ["make", "--dry-run", "install", f"DEPENDENCIES={choice}", f"VENV={tmp_path}/venv"]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.replace("\\\n", "")
    install = next(line for line in plan.splitlines() if "pip install" in line)
    assert option in install
    assert ("--constraint" in install) == (choice != "newest")


def test_make_refuses_another_choice(tmp_path):
    done = subprocess.run(
        ["make", "--dry-run", "install", "DEPENDENCIES=latest"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "recorded, oldest or newest" in done.stderr

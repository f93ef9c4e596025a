"""One set of versions, wherever they are named; one layout, as the package promises."""

import io
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import idm_lib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _constraints() -> dict[str, Version]:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line:
            name, _, version = line.partition("==")
            assert version, f"constraints.txt should pin every package with ==, not {line!r}"
            pins[canonicalize_name(name)] = Version(version)
    return pins


def _requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return PROJECT["dependencies"] + [r for e in ("book", "medical", "test", "train") for r in extras[e]]


@pytest.mark.parametrize("requirement", _requirements())
def test_every_requirement_is_a_range_that_holds_the_constraint(requirement):
    parsed = Requirement(requirement)
    assert parsed.specifier, f"{requirement} has no lower bound"
    assert not any(s.operator == "==" for s in parsed.specifier), f"{requirement}: pins belong in constraints.txt"
    pin = _constraints().get(canonicalize_name(parsed.name))
    assert pin is not None, f"{parsed.name} is not in constraints.txt"
    assert pin in parsed.specifier, f"constraints.txt has {parsed.name} {pin}, which {requirement} excludes"


def test_environment_agrees_with_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    assert Version(python.removeprefix("python=")) in Requirement("python" + PROJECT["requires-python"]).specifier
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "--constraint constraints.txt" in pip
    editable = next(re.search(r"\.\[(.+)\]", line)[1] for line in pip if "--editable" in line)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'".[{editable}]"' in makefile
    assert set(editable.split(",")) == {"book", "test", "train"}
    assert set(editable.split(",")) <= set(PROJECT["optional-dependencies"])


def test_what_is_optional_is_tested():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["medical"]) <= set(extras["test"])


def test_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert idm_lib.__version__ == PROJECT["version"] == citation["version"]


def test_python_versions_agree():
    listed = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
    allowed = Requirement("python" + PROJECT["requires-python"]).specifier
    assert listed == {f"3.{minor}" for minor in range(8, 20) if Version(f"3.{minor}") in allowed}


def test_torch_in_constraints_resolves_to_a_cpu_build():
    cuda = [name for name in _constraints() if name.startswith(("nvidia-", "triton"))]
    assert not cuda, f"constraints.txt would download {cuda}"


def test_continuous_integration_stops_at_the_first_failure():
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert script.stat().st_mode & 0o111
    assert text.rstrip().endswith("make test\nmake html")


def test_what_builds_the_package_can_build_it_without_a_network():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert set(build) <= set(PROJECT["optional-dependencies"]["test"])


def test_sdist_and_wheel_are_whole_and_the_wheel_works_offline(tmp_path):
    command = [sys.executable, str(ROOT / ".ci" / "dist.py"), "--out", str(tmp_path / "dist")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name == f"idm_lib-{PROJECT['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    for model in ("tiny", "prior-tiny"):
        assert f"idm_lib/weights/{model}/diffusion_pytorch_model.safetensors" in names
    assert "License-Expression: MIT" in metadata
    assert re.search(r"offline: \d\d\.\d\d dB", done.stdout)


def _fake(folder: Path, kind: str, names: list[str]) -> Path:
    if kind == "wheel":
        path = folder / "fake-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        return path
    path = folder / "fake-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"fake-1/{name}"), io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("kind", "names", "complaint"),
    [
        ("wheel", ["idm_lib/a.py", "idm_lib/w.bin", "idm_lib-1.dist-info/METADATA"], None),
        ("sdist", ["idm_lib/a.py", "idm_lib/w.bin", "pyproject.toml"], None),
        ("wheel", ["idm_lib/a.py"], "lacks idm_lib/w.bin"),
        ("sdist", ["idm_lib/a.py"], "lacks idm_lib/w.bin"),
        ("wheel", ["idm_lib/a.py", "idm_lib/w.bin", "tests/t.py"], "it has tests/t.py"),
    ],
)
def test_an_archive_that_lacks_a_file_or_has_a_strange_one_is_refused(tmp_path, kind, names, complaint):
    dist = runpy.run_path(str(ROOT / ".ci" / "dist.py"))
    check = lambda: dist["check_contents"](_fake(tmp_path, kind, names), {"idm_lib/a.py", "idm_lib/w.bin"})  # noqa: E731
    if complaint is None:
        check()
    else:
        with pytest.raises(dist["DistError"], match=complaint):
            check()

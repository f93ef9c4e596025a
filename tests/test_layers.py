"""The library's imports point down, and the checker that says so can see one that does not."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import layers  # noqa: E402

PACKAGES = {package for layer in layers.LAYERS for package in layer}


def test_every_import_of_the_library_points_down():
    assert layers.violations(layers.imports(ROOT / "idm_lib")) == []


def test_the_layers_are_those_of_the_design():
    """Top to bottom, as the architecture page lists them."""
    assert layers.LAYERS == (
        ("cli", "notebook", "pipelines"),
        ("training", "evaluation"),
        ("solvers", "export"),
        ("models",),
        ("diffusion",),
        ("memory",),
        ("reversible",),
        ("operators",),
    )


def test_every_package_has_a_layer_and_every_layer_its_packages():
    packages = {path.parent.name for path in (ROOT / "idm_lib").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "idm_lib").glob("*.py")} - {"__init__"}
    assert packages - set(layers.COMMON) == PACKAGES
    assert modules | (packages - PACKAGES) == set(layers.COMMON)


def _library(folder: Path, files: dict[str, str]) -> Path:
    for package in PACKAGES:
        (folder / "idm_lib" / package).mkdir(parents=True)
        (folder / "idm_lib" / package / "__init__.py").write_text('"""A package."""\n')
    for module in ("__init__", *layers.COMMON):
        (folder / "idm_lib" / f"{module}.py").write_text("")
    for name, text in files.items():
        (folder / "idm_lib" / name).write_text(text)
    return folder / "idm_lib"


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("operators/a.py", "from idm_lib.models import IDM", "operators imports models .*points up"),
        ("operators/a.py", "def f():\n    import idm_lib.models.unet", "a.py:2.*points up"),
        ("operators/a.py", "from idm_lib import models", "points up"),
        ("operators/a.py", "from ..models import IDM", "points up"),
        ("operators/a.py", "from .. import models", "points up"),
        ("models/a.py", "from idm_lib.solvers.tv import tv", "points up"),
        ("models/a.py", "import idm_lib as idm", "only the top layer may"),
        ("models/a.py", "from idm_lib import BlockCS", "only the top layer may"),
        ("reversible/a.py", "from idm_lib.operators import BlockCS", "must not know each other"),
        ("reversible/a.py", "from idm_lib.images import load_image", "must not know each other"),
        ("reversible/a.py", "from idm_lib.medical import read_slice", "must not know each other"),
        ("errors.py", "from idm_lib.operators import BlockCS", "a common module imports no layer"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, file, text, complaint):
    (wrong,) = layers.violations(layers.imports(_library(tmp_path, {file: text})))
    assert re.search(complaint, wrong)


def test_two_of_one_layer_may_not_import_each_other(tmp_path):
    one = {"training/a.py": "from idm_lib.evaluation import psnr"}
    assert layers.violations(layers.imports(_library(tmp_path / "one", one))) == []
    both = one | {"evaluation/a.py": "from idm_lib.training import train"}
    assert len(layers.violations(layers.imports(_library(tmp_path / "both", both)))) == 2


def test_a_package_without_a_layer_is_found(tmp_path):
    library = _library(tmp_path, {})
    (library / "extra").mkdir()
    (library / "extra" / "__init__.py").write_text("from idm_lib.operators import BlockCS")
    assert "has no layer" in layers.violations(layers.imports(library))[0]


def test_what_is_allowed_is_allowed(tmp_path):
    files = {
        "cli/a.py": "import idm_lib as idm\nfrom idm_lib import __version__\nfrom idm_lib.training import train",
        "operators/a.py": "import torch\nfrom idm_lib.errors import InputError\nfrom .b import c",
        "__init__.py": "from idm_lib.models import IDM",
    }
    assert layers.violations(layers.imports(_library(tmp_path, files))) == []


def test_the_drawing_shows_what_was_found_and_says_it_in_words(tmp_path):
    files = {"models/a.py": "from idm_lib.operators import x", "operators/a.py": "from idm_lib.models import y"}
    edges = layers.imports(_library(tmp_path, files))
    root = ET.fromstring(layers.svg(edges))
    paths = [e for e in root.iter() if e.tag == "path" and e.get("class", "").startswith("arc")]
    assert [p.get("class") for p in paths] == ["arc", "arc up"]
    assert paths[0].find("title").text == "models imports operators, in 1 file"
    assert {e.text for e in root.iter("text")} == PACKAGES
    assert "models imports operators;" in root.get("aria-label")

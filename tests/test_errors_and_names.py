"""The names that book and users rely on, and what a bare import costs."""

import subprocess
import sys

import pytest

import idm_lib as idm


def test_every_public_name_loads():
    for name in idm.__all__:
        assert getattr(idm, name) is not None, name
    assert set(idm.__all__) <= set(dir(idm))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'Bloc' *; it has .*BlockCS"):
        idm.Bloc  # noqa: B018


def test_the_one_user_error_is_a_value_error():
    assert issubclass(idm.InputError, ValueError)


def test_import_and_help_do_without_torch():
    code = (
        "import sys, idm_lib\n"
        "from idm_lib.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'diffusers', 'skimage'} & set(sys.modules), 'imported too much'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("reconstruct", "measure", "evaluate", "train", "bench"):
        assert f"idm {command}" in done.stdout

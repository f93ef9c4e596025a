"""The command line itself: help, exit codes, one-line errors."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from idm_lib.cli import main
from idm_lib.cli.main import build_parser

COMMANDS = ["reconstruct", "measure", "evaluate", "train", "plan", "bench", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"idm {command}" in capsys.readouterr().out


def _help(capsys, *words):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_example_of_the_help_is_a_command_line(capsys, command):
    text = _help(capsys, *([command] if command else []))
    examples = [re.split(r"\s{2,}", line.strip())[0] for line in text.splitlines() if line.startswith("  idm ")]
    parsed = [build_parser().parse_args(shlex.split(example)[1:]).command for example in examples]
    assert parsed
    assert command in (None, parsed[0])


def test_the_help_shows_every_command_and_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = _help(capsys)
    assert all(f"  idm {command} " in text for command in COMMANDS)
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["reconstruct"], "required: IMAGE"),
        (["reconstruct", "a.png", "--method", "magic"], "invalid choice: 'magic'"),
        (["reconstruct", "a.png", "--ratio", "1.5"], r"ratio must lie in (0, 1]"),
        (["reconstruct", "a.png", "--ratio", "nan"], r"ratio must lie in (0, 1]"),
        (["reconstruct", "a.png", "--ratio", "tenth"], "expected a number; got 'tenth'"),
        (["reconstruct", "a.png", "--hold", "1"], "must lie in [0, 1)"),
        (["reconstruct", "a.png", "--iterations", "0"], "at least 1"),
        (["reconstruct", "a.png", "--seed", "-1"], "whole number from 0"),
        (["reconstruct", "a.png", "--device", "toaster"], "no device 'toaster'"),
        (["evaluate", "--images", "x", "--device", "meta"], "no device 'meta'"),
        (["reconstruct", "a.png", "--measurements", "a.npz"], "IMAGE cannot go with --measurements"),
        (["reconstruct", "a.png", "--operator", "{}"], "IMAGE cannot go with --measurements or --operator"),
        (["reconstruct", "--measurements", "gone.npz", "--ratio", "0.1"], "--ratio cannot go with"),
        (["measure", "a.png"], "required: --out"),
        (["measure", "a.png", "--out", "a.npz", "--ratio", "0"], "ratio must lie in (0, 1]"),
        (["train"], "required: --config"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_two(capsys, words, message):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""


def test_priors_that_are_none(capsys, photos, prior, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(prior, cut)
    weights = cut / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    other = tmp_path / "other"
    shutil.copytree(prior, other)
    config = other / "config.json"
    config.write_text(config.read_text().replace('"Denoiser"', '"Painter"'))
    for folder, words in (
        (tmp_path / "none", "no weights"),
        (cut, "is broken"),
        (other, "a Painter, not a Denoiser"),
    ):
        options = ["--method", "oamp", "--prior", str(folder), "--out", str(tmp_path)]
        assert main(["reconstruct", str(photos / "good-7x9.png"), *options]) == 1
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


def test_bench_needs_a_checkout(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench"]) == 1
    assert "checkout" in capsys.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "speed.py").touch()
    assert main(["bench"]) == 0
    assert capsys.readouterr().out == "speed\n"
    assert main(["bench", "size"]) == 1
    assert "choose from speed" in capsys.readouterr().err


def test_the_installed_command(photos, tmp_path):
    code = "import sys; from idm_lib.cli import main; sys.exit(main())"
    words = [
        "reconstruct",
        photos / "good-7x9.png",
        "gone.png",
        "--method",
        "pinv",
        "--out",
        tmp_path,
        "--ratio",
        "1",
    ]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "7x9.png" in done.stdout
    assert done.stderr == "idm: gone.png does not exist; give the path of an image file.\n"

"""``idm demo`` writes one whole file; what the page does is seen in tests/book/test_demo.py."""

import contextlib
import re
import webbrowser

import pytest

from idm_lib.cli import main
from idm_lib.errors import InputError
from idm_lib.notebook.demo import demo_content


def test_the_page_is_one_file_and_is_opened(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--size", "64"]) == 0
    (file,) = tmp_path.iterdir()
    assert opened == [file.as_uri()]
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"<script[^>]* src=|<link|@import", text.split("<script>")[0])
    assert text.count("<script>") == text.count("</script>") == 4
    assert "offline" in capsys.readouterr().out


def test_no_browser_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert main(["demo", "--size", "64", "--out", str(tmp_path / "a.html")]) == 0
    assert "No browser" in capsys.readouterr().out
    assert main(["demo", "--size", "64", "--out", str(tmp_path / "b.html"), "--no-open"]) == 0
    assert "No browser" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "demo.txt"], "end in .html"),
        (["--out", "nowhere/demo.html"], "nowhere is not a folder"),
        (["--size", "100"], "multiples of 32"),
        (["--size", "4096"], "at most"),
        (["--model", "prior-tiny"], "prior-tiny"),
        (["--model", "tiny-mri4"], "can be exported"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--no-open", *words]) == 1
    said = capsys.readouterr().err
    assert re.search(re.escape(message), said)
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_photos_that_are_too_small_are_told_before_the_model_is_exported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("idm_lib.notebook.demo.export", lambda *_: pytest.fail("exported, which takes minutes"))
    assert main(["demo", "--no-open", "--size", "320", "--out", str(tmp_path / "a.html")]) == 1
    assert "at most 300 for 'chelsea'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    most = int(re.search(r"at most (\d+)", " ".join(capsys.readouterr().out.split()))[1])
    sizes = []
    monkeypatch.setattr("idm_lib.notebook.demo.export", lambda model, size: sizes.append(size))
    for size in (most, most + 32):
        with contextlib.suppress(InputError):
            demo_content(size=size)
    assert sizes == [(most, most)], "the largest multiple that all the photos have"

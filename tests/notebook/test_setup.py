"""Tier, photographs and recorded results."""

import json
import random

import numpy as np
import pytest
import torch

from idm_lib import notebook as nb
from idm_lib.errors import InputError
from idm_lib.notebook import tier
from idm_lib.notebook.preflight import precision_for


class _Card:
    def __init__(self, gib: float) -> None:
        self.total_memory = gib * 2**30


def _machine(monkeypatch, gib: float | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gib is not None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: _Card(gib))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Test GPU")


@pytest.mark.parametrize(
    ("gib", "asked", "name", "device", "reason"),
    [
        (None, None, "tiny", "cpu", "no CUDA device"),
        (None, "full", "tiny", "cpu", "cannot run"),
        (8, None, "tiny", "cuda", "less than"),
        (8, "full", "tiny", "cuda", "less than"),
        (24, None, "full", "cuda", "has room"),
        (24, "tiny", "tiny", "cpu", "IDM_TIER"),
        (24, "full", "full", "cuda", "IDM_TIER"),
    ],
)
def test_tier_says_what_and_why(monkeypatch, gib, asked, name, device, reason):
    _machine(monkeypatch, gib)
    chosen = tier.choose_tier(asked)
    assert (chosen.name, chosen.device.type) == (name, device)
    assert chosen.full == (name == "full")
    assert reason in str(chosen)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [(None, "fp32"), ((6, 1), "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")],
)
def test_preflight_chooses_the_precision_and_says_why(monkeypatch, capsys, capability, precision):
    _machine(monkeypatch, None if capability is None else 15)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14 * 2**30, 15 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    found = nb.preflight()
    said = capsys.readouterr().out
    assert found.precision == precision
    assert found.planned == ("fp32" if precision == "fp32" else "amp")
    assert f"Precision {precision}, because" in said
    if capability:
        assert (found.kind, found.free_gib) == ("cuda", 14)
        assert "Test GPU: 14.0 of 15.0 GiB free" in said
        assert f"capability {capability[0]}.{capability[1]}" in said
    else:
        assert 0 < found.free_gib <= found.total_gib


def test_a_capability_is_two_numbers():
    with pytest.raises(InputError, match="two numbers"):
        precision_for((8,))


def test_unknown_tier_is_refused():
    with pytest.raises(InputError, match="'tiny' or 'full', got 'huge'"):
        tier.choose_tier("huge")


def test_setup_makes_a_chapter_repeatable(monkeypatch, capsys):
    monkeypatch.setenv("IDM_TIER", "tiny")
    drawn = []
    for _ in range(2):
        nb.setup(seed=3)
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert drawn[0] == drawn[1]
    assert "Tier tiny" in capsys.readouterr().out


@pytest.mark.parametrize("name", nb.PHOTOS)
def test_photographs_need_no_download(name, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a photograph asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    photo = nb.photo(name, size=128)
    assert photo.shape == (1, 1, 128, 128)
    assert photo.dtype == torch.float32
    assert 0 <= photo.min() < photo.max() <= 1
    assert nb.photo(name, size=64, color=True).shape == (1, 3, 64, 64)


def test_photograph_that_is_not_there():
    with pytest.raises(InputError, match="expected one of"):
        nb.photo("lena")
    with pytest.raises(InputError, match="at most"):
        nb.photo("camera", size=5000)


def test_luminance_is_the_weighted_sum_of_the_colours():
    colour, grey = nb.photo("astronaut", color=True), nb.photo("astronaut")
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert torch.allclose((colour * weights).sum(1, keepdim=True), grey, atol=1e-5)


def test_recorded_results_show_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("IDM_RESULTS", str(tmp_path))
    record = {"psnr": 29.4, "provenance": {"date": "2026-01-02", "commit": "abc", "versions": {"torch": "2"}}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "bare.json").write_text("{}")
    found = nb.recorded("run")
    assert found["psnr"] == 29.4
    assert found.provenance == "date: 2026-01-02; commit: abc; versions: torch 2"
    assert "results/run.json" in found._repr_html_()
    earlier = {"date": "2026-01-01", "commit": "ab", "command": "idm bench", "versions": {"torch": "2"}}
    (tmp_path / "run.json").write_text(json.dumps(record | {"sources": [earlier]}))
    assert nb.recorded("run").provenance == (
        "Added last: date: 2026-01-02; commit: abc; versions: torch 2. "
        "Earlier: date: 2026-01-01; commit: ab; command: idm bench"
    )
    (tmp_path / "run.json").write_text(json.dumps({"provenance": {"commit": "abc+changes"}}))
    assert nb.recorded("run").provenance.endswith("abc+changes. (+changes: with changes that were not yet committed)")
    with pytest.raises(InputError, match="provenance"):
        nb.recorded("bare")
    with pytest.raises(InputError, match="bare, run, got 'other'"):
        nb.recorded("other")
    monkeypatch.setenv("IDM_RESULTS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="results/ folder"):
        nb.recorded("run")

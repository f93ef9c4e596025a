"""Configurations: read, overridden, saved whole; what is wrong is named."""

import pytest

import idm_lib as idm
from idm_lib.training import TrainConfig


def test_the_shipped_configuration_and_overrides():
    config = TrainConfig.load("prior-tiny", ["steps=7", "optimiser.lr=3e-4", "data.folder='2024'"])
    assert (config.steps, config.optimiser.lr, config.data.folder) == (7, 3e-4, "2024")
    assert config.optimiser.warmup == TrainConfig.load("prior-tiny").optimiser.warmup


def test_saved_whole_and_read_back(config, tmp_path):
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert TrainConfig.load(tmp_path / "c.yaml") == config


def test_an_empty_file_is_all_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("")
    assert TrainConfig.load(tmp_path / "c.yaml") == TrainConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz: 3", "unknown key 'stepz'"),
        ("data: {size: 3}", "unknown key 'size'"),
        ("steps: many", "steps must be int"),
        ("steps: 2.5", "steps must be int"),
        ("steps: true", "steps must be int"),
        ("steps: 0", "steps must be at least 1"),
        ("data: 3", "must be a mapping"),
        ("- 1", "must be a mapping"),
        ("only words", "must be a mapping"),
        ("optimiser: {lr: fast}", "lr must be a number"),
        ("optimiser: {lr: -1}", "lr > 0"),
        ("optimiser: {lr: .nan}", "lr > 0"),
        ("optimiser: {clip: -1}", "clip ≥ 0"),
        ("optimiser: {ema: 1.0}", "ema in"),
        ("seed: -1", "seed must lie in"),
        ("data: {validation: -1}", "validation must be at least 0"),
        ("export_dtype: int8", "float32 or float16"),
        ("a: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
    ],
)
def test_bad_configurations_are_refused(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(idm.InputError, match=words):
        TrainConfig.load(path)


@pytest.mark.parametrize("override", ["steps", "=3", "steps.more=3", "steps=[", "data.crop.side=3"])
def test_bad_overrides_are_refused(override):
    with pytest.raises(idm.InputError, match="override"):
        TrainConfig.load("prior-tiny", [override])


def test_a_missing_configuration_names_those_there_are():
    with pytest.raises(idm.InputError, match="prior-tiny"):
        TrainConfig.load("prior-huge")

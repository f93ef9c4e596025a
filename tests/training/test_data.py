"""Batches depend on seed and step alone, and never show what is held out."""

import pytest
import torch

import idm_lib as idm
from idm_lib.training.data import CropSource


def test_batches_depend_on_seed_and_step_alone(folder):
    one, other = CropSource(folder, 16, 2, seed=1), CropSource(folder, 16, 2, seed=1)
    other.batch(9, 4)
    assert torch.equal(one.batch(3, 4), other.batch(3, 4))
    assert not torch.equal(one.batch(3, 16), one.batch(4, 16))
    assert not torch.equal(one.batch(3, 16), CropSource(folder, 16, 2, seed=2).batch(3, 16))


def test_held_out_images_are_in_no_batch(folder):
    source = CropSource(folder, 16, 2, seed=0)
    held = {int(image[0, 0]) for image in source.validation}
    assert held == {20, 120}, "spread evenly over the sorted names"
    seen = {round(float(v) * 255) for step in range(20) for v in source.batch(step, 8)[:, 0, 0, 0]}
    assert seen == {40, 60, 80, 100}
    assert source.batch(0, 3).shape == (3, 1, 16, 16)
    assert source.validation_crops(10).shape == (2, 1, 10, 10)


def test_what_cannot_be_used_is_named_and_passed_over(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "text.png").write_text("text")
    source = CropSource(tmp_path, 16, 2, seed=0)
    assert len(source.training) == 4
    assert [("text.png" in reason) for reason in source.skipped] == [True]
    with pytest.raises(idm.InputError, match="0 usable images"):
        CropSource(tmp_path, 21, 2, seed=0)
    with pytest.raises(idm.InputError, match="more than the 6"):
        CropSource(folder, 16, 6, seed=0)
    with pytest.raises(idm.InputError, match="not a folder"):
        CropSource(tmp_path / "none", 16, 2, seed=0)

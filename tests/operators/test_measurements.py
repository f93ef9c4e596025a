"""Measurements in a file: there and back, and plain words for files that hold none."""

import gc
import json
import pickle
import warnings

import numpy as np
import pytest
import torch

import idm_lib as idm
from idm_lib.operators import LinearOperator


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(tmp_path, dtype):
    op = idm.MRI((8, 6), mask=np.indices((8, 6)).sum(0) % 2, noise_std=0.1)
    y = op(torch.rand(3, 1, 8, 6, dtype=dtype), seed=0)
    idm.save_measurements(tmp_path / "y.npz", y.requires_grad_(), op)
    found, again = idm.load_measurements(str(tmp_path / "y.npz"))
    assert torch.equal(found, y)
    assert found.dtype == dtype
    assert torch.equal(again.A_dagger(found), op.A_dagger(y))
    assert again.config() == op.config()


def test_the_layout_is_plain_numpy(tmp_path):
    """What the module says, read and written without the library."""
    op = idm.Inpainting((4, 4), mask=np.eye(4))
    idm.save_measurements(tmp_path / "a.npz", torch.ones(1, 4), op)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["format", "operator", "operator.mask", "y"]
        assert json.loads(str(file["operator"]))["operator"] == "Inpainting"
    config = {"operator": "SuperResolution", "image_size": [4, 4], "factor": 2}
    np.savez(tmp_path / "b.npz", y=np.zeros((2, 4), ">f8"), operator=json.dumps(config), when="today")
    y, op = idm.load_measurements(tmp_path / "b.npz")
    assert (tuple(y.shape), y.dtype, type(op)) == ((2, 4), torch.float64, idm.SuperResolution)
    np.savez_compressed(tmp_path / "c.npz", y=np.zeros((2, 4)))
    assert idm.load_measurements(tmp_path / "c.npz").operator is None


def test_half_precision_is_kept_as_float32(tmp_path):
    idm.save_measurements(tmp_path / "y.npz", torch.ones(1, 16).half(), idm.Inpainting((4, 4), 1.0))
    assert idm.load_measurements(tmp_path / "y.npz").y.dtype == torch.float32


def written(folder, name):
    """A file that is not what it should be."""
    path, y = folder / f"{name}.npz", np.zeros((1, 4))
    config = {"operator": "SuperResolution", "image_size": [4, 4], "factor": 2}
    whole = folder / "whole.npz"
    np.savez(whole, y=np.random.RandomState(0).rand(20, 40))
    content = whole.read_bytes()
    if name == "text":
        path.write_text("a list of things to buy")
    elif name == "empty":
        path.touch()
    elif name == "cut":
        path.write_bytes(content[:-200])
    elif name == "bits":
        path.write_bytes(content[:3000] + bytes(64) + content[3064:])
    elif name == "pickle":
        path.write_bytes(pickle.dumps({"y": y}))
    elif name == "objects":
        np.savez(path, y=np.array([{"a": 1}], dtype=object))
    elif name == "single":
        with path.open("wb") as file:
            np.save(file, y)
    elif name == "folder":
        path.mkdir()
    arrays = {
        "foreign": {"pixels": y},
        "flat": {"y": y[0]},
        "integer": {"y": y.astype(int)},
        "nan": {"y": y * np.nan},
        "version": {"y": y, "format": "idm-measurements 9"},
        "no-json": {"y": y, "operator": "SuperResolution"},
        "no-text": {"y": y, "operator": np.zeros(3)},
        "unknown": {"y": y, "operator": json.dumps({"operator": "Telescope"})},
        "broken": {"y": y, "operator": json.dumps(config | {"factor": 3})},
        "mismatch": {"y": y[:, :3], "operator": json.dumps(config)},
    }
    if name in arrays:
        np.savez(path, **arrays[name])
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "does not exist"),
        *[(name, "no whole .npz without pickles") for name in ("text", "empty", "cut", "bits", "pickle", "objects")],
        ("folder", "no whole .npz"),
        ("single", "is a single array"),
        ("foreign", "got no y"),
        ("flat", "got y of shape (4,)"),
        ("integer", "int64"),
        ("nan", "finite"),
        ("version", "expected 'idm-measurements 1'"),
        ("no-json", "operator that is not JSON"),
        ("no-text", "a configuration must be an object"),
        ("unknown", "got 'Telescope'"),
        ("broken", "multiples of the factor 3"),
        ("mismatch", "y has 3 numbers an image, but its SuperResolution takes 4"),
    ],
)
def test_a_file_that_holds_no_measurements_gets_one_sentence(tmp_path, name, words):
    path = written(tmp_path, name)
    with pytest.raises(idm.InputError) as caught:
        idm.load_measurements(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_not_left_open(tmp_path):
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(idm.InputError, match="no whole"):
            idm.load_measurements(tmp_path / "cut.npz")
        gc.collect()
    assert [w for w in found if w.category is ResourceWarning] == []


def test_nothing_is_unpickled(tmp_path):
    """A pickle that would run code is refused before it is looked at."""

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code in the file was run",))

    np.savez(tmp_path / "y.npz", y=np.array([Trap()], dtype=object))
    with pytest.raises(idm.InputError, match="without pickles"):
        idm.load_measurements(tmp_path / "y.npz")


def test_what_cannot_be_saved_is_refused(tmp_path):
    class Own(LinearOperator):
        def A(self, x):
            return x.flatten(1)

        A_adjoint = A_dagger = A

    op, y = idm.Inpainting((4, 4), 1.0), torch.ones(1, 16)
    for path, numbers, operator, words in (
        ("y.txt", y, op, "end its name in .npz"),
        ("y.npz", y[:, 1:], op, "y has 15 numbers an image"),
        ("y.npz", y[0], op, r"shape \(B, M\)"),
        ("y.npz", y * float("nan"), op, "finite"),
        ("y.npz", y, Own(), "cannot be saved"),
        ("no/folder/y.npz", y, op, "could not be written"),
    ):
        with pytest.raises(idm.InputError, match=words):
            idm.save_measurements(tmp_path / path, numbers, operator)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"

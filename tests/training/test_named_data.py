"""Training images by name, fetched from a server of the test's own."""

import hashlib
import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

import idm_lib as idm
from idm_lib.training import named_data
from idm_lib.training.data import CropSource
from idm_lib.training.dead_leaves import dead_leaves
from idm_lib.training.named_data import PUBLIC_SETS, PublicSet, fetch


def photo(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(seed).randint(0, 255, (20, 20)).astype(np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def server(tmp_path):
    """Serves a folder with set.zip and set.tgz; gives (url, paths asked for)."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()
    members = {f"set/{part}/{i}.png": photo(i) for i, part in enumerate(("one", "one", "two"))}
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with tarfile.open(folder / "set.tgz", "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}", folder, asked
    serving.shutdown()
    serving.server_close()


def public_set(server, name, sha256=None):
    url, folder, _ = server
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return PublicSet(f"{url}/{name}", sha256 or found, 0.001, ("set/one", "set/two"), "none")


@pytest.mark.parametrize("name", ["set.zip", "set.tgz"])
def test_a_set_is_fetched_once(server, tmp_path, name):
    data, cache = public_set(server, name), tmp_path / "cache"
    folders = fetch(data, cache)
    assert [sorted(path.name for path in part.iterdir()) for part in folders] == [["0.png", "1.png"], ["2.png"]]
    (cache / name).unlink()  # the archive may go
    assert fetch(data, cache) == folders
    assert server[2] == [f"/{name}"]


def test_an_unpacking_that_was_interrupted_is_done_again(server, tmp_path, monkeypatch):
    data, cache = public_set(server, "set.zip"), tmp_path / "cache"

    def interrupted(part, whole):
        (part / "set" / "one" / "0.png").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(named_data, "_move", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(data, cache)
    assert (fetch(data, cache)[0] / "0.png").read_bytes() == photo(0)
    assert sorted(path.name for path in cache.iterdir()) == ["set.zip", "set.zip.images"]
    assert len(server[2]) == 1, "the archive was whole"


def test_two_runs_may_fetch_at_once(server, tmp_path, monkeypatch):
    data, cache, move = public_set(server, "set.zip"), tmp_path / "cache", named_data._move

    def overtaken(part, whole):
        monkeypatch.setattr(named_data, "_move", move)
        monkeypatch.setattr(named_data.os, "getpid", lambda: -1)
        fetch(data, cache)  # the other run, from beginning to end
        move(part, whole)

    monkeypatch.setattr(named_data, "_move", overtaken)
    assert [len(list(part.iterdir())) for part in fetch(data, cache)] == [2, 1]
    assert sorted(path.name for path in cache.iterdir()) == ["set.zip", "set.zip.images"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    data, cache = public_set(server, "set.zip", sha256="0" * 64), tmp_path / "cache"
    with pytest.raises(idm.InputError, match="could not be fetched"):
        fetch(data, cache)
    assert not any(path.is_file() for path in cache.rglob("*"))


def test_no_such_archive_and_no_server(server, tmp_path):
    url, _, _ = server
    for where in (f"{url}/none.zip", "http://127.0.0.1:9/set.zip"):
        with pytest.raises(idm.InputError, match=r"could not be fetched .* images of your own"):
            fetch(PublicSet(where, "0" * 64, 0.001, (), "none"), tmp_path)


def test_a_named_set_is_what_a_run_trains_on(server, tmp_path, monkeypatch):
    monkeypatch.setenv("IDM_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(named_data.PUBLIC_SETS, "flowers", public_set(server, "set.zip"))
    source = CropSource("flowers", 16, 1, seed=0)
    assert (len(source.training), len(source.validation)) == (2, 1)
    assert source.batch(0, 2).shape == (2, 1, 16, 16)


def test_the_public_sets_are_well_formed():
    for data in PUBLIC_SETS.values():
        assert data.url.startswith("https://")
        assert len(bytes.fromhex(data.sha256)) == 32
        assert data.images


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "0.png").write_bytes(photo(0))
    assert len(CropSource("synthetic", 16, 0, seed=0).training) == 1


def test_an_unknown_name_lists_the_known():
    with pytest.raises(idm.InputError, match=r"not a folder; .* div2k, flowers, synthetic"):
        CropSource("imagenet", 16, 0, seed=0)


def test_synthetic_images_depend_on_the_seed_alone(monkeypatch):
    monkeypatch.setattr("idm_lib.training.data.SYNTHETIC_IMAGES", 3)
    one, same, other = (CropSource("synthetic", 32, 1, seed=seed) for seed in (1, 1, 2))
    assert (len(one.training), len(one.validation)) == (2, 1)
    assert torch.equal(one.batch(0, 4), same.batch(0, 4))
    assert not torch.equal(one.batch(0, 4), other.batch(0, 4))


def test_leaves_have_edges_and_every_grey():
    image = dead_leaves(96, np.random.RandomState(0)).astype(float) / 255
    steps = np.abs(np.diff(image))
    assert image.shape == (96, 96)
    assert 0.15 < image.std() < 0.4
    assert np.median(steps) < 0.1 < np.quantile(steps, 0.95), "mostly smooth, some edges"

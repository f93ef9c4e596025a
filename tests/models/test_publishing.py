"""What others get: a folder with a model card, and the same on a hub (here a server in this process)."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi

import idm_lib as idm
from idm_lib.models.publishing import model_card

WEIGHTS = "diffusion_pytorch_model.safetensors"


def model():
    torch.manual_seed(0)
    numbers = {"block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "attention_heads": 2}
    return idm.InvertibleDiffusion(steps=2, **numbers, ratios=(0.2, 0.4), operator={"seed": 7, "block_size": 16})


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files speaks to."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(404, {"error": "not found"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        self.server.asked.append(self.path)
        if self.server.refuses:
            self.answer(403, {"error": "no right to write here"})
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.answer(200, {"url": f"{self.server.url}/reader/idm", "name": "reader/idm"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                else:
                    self.server.message = entry["value"]["summary"]
            self.answer(200, {"commitUrl": f"{self.server.url}/reader/idm/commit/1", "commitOid": "1"})
        else:
            self.answer(200, {})

    def chunks(self):
        parts = []
        while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(parts)

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch):
    # The test run is offline on purpose; this hub is within the process.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.files, server.asked, server.refuses = f"http://127.0.0.1:{server.server_port}", {}, [], False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_arrives_on_the_hub_is_the_model(hub, tmp_path):
    given = model()
    address = given.push_to_hub("reader/idm", private=True, api=HfApi(endpoint=hub.url, token="hf_reader"))
    assert address == f"{hub.url}/reader/idm/commit/1"
    assert hub.created["name"] == "idm"
    assert hub.created.get("private") is True or hub.created.get("visibility") == "private"
    assert hub.message == "Upload InvertibleDiffusion"
    assert set(hub.files) == {"README.md", "config.json", WEIGHTS}
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    loaded = idm.InvertibleDiffusion.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in given.state_dict().items())


def test_a_hub_that_refuses_or_is_not_there_gives_one_sentence(hub):
    hub.refuses = True
    with pytest.raises(idm.InputError, match=r"reader/idm could not be uploaded to: .*403") as error:
        model().push_to_hub("reader/idm", api=HfApi(endpoint=hub.url, token="hf_reader"))
    assert "\n" not in str(error.value)
    with pytest.raises(idm.InputError, match="could not be uploaded to: Repo id must"):
        model().push_to_hub("not a name", api=HfApi(endpoint=hub.url, token="hf_reader"))
    with pytest.raises(idm.InputError, match="reader/idm could not be uploaded to"):
        model().push_to_hub("reader/idm", api=HfApi(endpoint="http://127.0.0.1:9", token="hf_reader"))


def test_the_card_says_what_a_stranger_needs(tmp_path):
    given = model()
    given.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert f"| parameters | {sum(p.numel() for p in given.parameters()):,} |" in card
    assert "0.2 to 0.4" in card
    assert "block_size 16, seed 7" in card
    code = re.search(r"```python\n(.*?)```", card, re.S)[1].replace("this folder or repository", str(tmp_path))
    scope = {"x": torch.rand(1, 1, 16, 16)}
    exec(code.replace("256, 256", "16, 16"), scope)
    assert scope["x_hat"].shape == (1, 1, 16, 16)
    assert scope["op"].config()["seed"] == 7


def test_a_card_that_is_there_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    model().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(idm.InputError, match="cannot be written to"):
        model().save_pretrained(tmp_path / "file")
    with pytest.raises(idm.InputError, match="never pickled"):
        model().save_pretrained(tmp_path / "new", safe_serialization=False)
    with pytest.raises(idm.InputError, match="call push_to_hub"):
        model().save_pretrained(tmp_path / "new", push_to_hub=True)
    assert not (tmp_path / "new").exists()


def test_the_cards_example_runs_for_any_operator(tmp_path):
    records = (
        {"seed": 3},
        {"operator": "MRI", "ratio": 0.25, "pattern": ["cartesian", "radial"]},
        {"operator": "Inpainting", "pattern": "random"},
        {"operator": "SuperResolution", "factor": 4, "kernel": "bicubic"},
        {"operator": "ParallelBeamCT", "views": [30, 60], "max_iterations": 8},
    )
    for record in records:
        model = idm.InvertibleDiffusion.named("tiny", steps=1, operator=record)
        (line,) = (line for line in model_card(model).splitlines() if line.startswith("op = "))
        op = eval(line.removeprefix("op = ").replace("256", "32"), {"idm": idm})
        assert type(op).__name__ == record.get("operator", "BlockCS")
        assert op.A(torch.rand(1, 1, 32, 32)).shape == (1, op.measurements)

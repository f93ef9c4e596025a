"""A web page that runs a model in the reader's browser: nothing to install, and nothing leaves the page.

The page works from a folder, a USB stick or a server alike. Pages opened from a folder may not fetch files but may
run scripts, so all files are scripts that set a variable; binary ones are in base64.
"""

import base64
import io
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

import numpy as np
from PIL import Image
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.export.exported import Exported

_WEB = files("idm_lib.export") / "web"


def scripts(exported: Exported) -> dict[str, str]:
    """The page's scripts by name: ``demo``, and those that it loads when it is asked to reconstruct.

    Those are ``model``, ``runtime`` (ONNX Runtime Web) and ``worker``; each sets ``window.idmDemo.NAME``.
    """
    arrays = {name: value.numpy().tobytes() for name, value in exported.arrays.items() if name != "inverse"}
    binary = {"start": exported.start, "step": exported.step} | arrays
    model = {name: _base64(content) for name, content in binary.items()} | {"settings": exported.settings}
    runtime = {
        "script": _text("ort.wasm.bundle.min.mjs").replace("//# sourceMappingURL=", "// map: "),
        "wasm": _base64((_WEB / "ort-wasm-simd-threaded.wasm.gz").read_bytes()),
    }
    loaded = {"model": model, "runtime": runtime, "worker": _text("worker.js")}
    return {"demo": _text("demo.js")} | {name: _setting(name, value) for name, value in loaded.items()}


def style() -> str:
    """The page's style sheet."""
    return _text("demo.css")


def fragment(exported: Exported, photos: Mapping[str, tuple[Tensor, str]], base: str, megabytes: float) -> str:
    """The part of a page that the script ``demo`` brings to life.

    Args:
        exported: what will run.
        photos: name → (image, (1, 1, H, W) in [0, 1], and what is in it, for who cannot see it); at least one.
        base: what stands before a script's name in its address, as ``_static/demo-``.
        megabytes: that the browser will load.

    Raises:
        InputError: no photo.
    """
    if not photos:
        raise InputError("a page needs at least one photo to begin with; got none.")
    settings = {key: exported.settings[key] for key in ("image_size", "block_size", "choices")}
    ratios = [choice["ratio"] for choice in settings["choices"]]
    first = min(range(len(ratios)), key=lambda index: abs(ratios[index] - 0.1))
    buttons = "".join(
        f'<button type="button" aria-pressed="false" title="{escape(name)}">'
        f'<img src="data:image/png;base64,{_png(image)}" alt="{escape(alt)}"></button>'
        for name, (image, alt) in photos.items()
    )
    height, width = settings["image_size"]
    return Template(_text("fragment.html")).substitute(
        base=escape(base),
        settings=escape(json.dumps(settings | {"megabytes": round(megabytes)}, separators=(",", ":"))),
        photos=buttons,
        last=len(ratios) - 1,
        first=first,
        width=width,
        height=height,
    )


def page(exported: Exported, photos: Mapping[str, tuple[Tensor, str]], title: str) -> str:
    """A whole page in one file, with everything inside."""
    parts = scripts(exported)
    content = fragment(exported, photos, "", sum(map(len, parts.values())) / 1e6)
    order = [name for name in parts if name != "demo"] + ["demo"]
    code = "".join(f"<script>{_inline(parts[name])}</script>\n" for name in order)
    return Template(_text("page.html")).substitute(title=escape(title), style=style(), content=content, scripts=code)


def _text(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _png(image: Tensor) -> str:
    pixels = (image[0, 0].clamp(0, 1) * 255).round().numpy().astype(np.uint8)  # (H, W)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return _base64(file.getvalue())


def _setting(name: str, value: object) -> str:
    return f"(window.idmDemo = window.idmDemo || {{}}).{name} = {json.dumps(value, separators=(',', ':'))};\n"


def _inline(script: str) -> str:
    """A script that may stand inside a page: nothing in its strings ends it early."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")

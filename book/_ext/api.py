"""What the API page needs: links that lead to where it has a name, and sentences left as they are written."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Resolve ``idm_lib.operators.LinearOperator``, or a method of it, to what the page calls ``idm_lib.…``.

    What the book does not document (torch's tensors, Python's own types, the library's inner parts) stays plain
    text. A part of the library that does not exist is left to Sphinx, which fails the build.
    """
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    known = env.get_domain("py").objects
    parts = target.split(".")
    for tail in (".".join(parts[-2:]), parts[-1]):
        entry = known.get(f"idm_lib.{tail}")
        if entry is not None and (parts[0] == "idm_lib" or "." not in target):
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, target)
    return content if parts[0] != "idm_lib" or _exists(target) else None


def _exists(name: str) -> bool:
    """Whether a dotted name leads to a module or to something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        return find_spec(name) is not None or hasattr(import_module(module), attribute)
    except (ImportError, ValueError):  # what stands before the last dot is no package, but may be a module
        try:
            return hasattr(import_module(module), attribute)
        except ImportError:
            return False


def keep_colon(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """``M: how many pixels are seen`` is a sentence; Napoleon would take M for the attribute's type."""
    if what in ("property", "attribute") and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the two."""
    app.connect("autodoc-process-docstring", keep_colon, priority=400)  # before Napoleon
    app.connect("missing-reference", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""Which package of the library imports which: read from its source, held against its layers, and drawn.

The directive ``import-diagram`` puts the drawing and a table into a page.
"""

import ast
from collections import defaultdict
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

#: The library's layers, top first. A package may import those of the layers below its own.
LAYERS = (
    ("cli", "notebook", "pipelines"),
    ("training", "evaluation"),
    ("solvers", "export"),
    ("models",),
    ("diffusion",),
    ("memory",),
    ("reversible",),
    ("operators",),
)
#: What any package may import; they import nothing but each other.
COMMON = ("errors", "images", "medical")
#: The package's own ``__init__``, which hands on names from every layer: for the top layer only.
FACADE = "idm_lib"
#: Neighbours that must not know each other, although the layers alone would let them.
APART = {
    ("reversible", "operators"),
    ("reversible", "images"),
    ("reversible", "medical"),
    ("operators", "images"),
}

Edges = dict[tuple[str, str], list[str]]


def imports(library: Path) -> Edges:
    """Return (importer, imported) → the places of each import between packages, inside functions too.

    Args:
        library: the folder ``idm_lib``.
    """
    edges: Edges = defaultdict(list)
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        importer = FACADE if parts == ("__init__",) else parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module in _modules(node, parts, library):
                if module != importer:
                    edges[importer, module].append(f"{path.relative_to(library.parent)}:{node.lineno}")
    return dict(edges)


def _modules(node: ast.AST, parts: tuple[str, ...], library: Path) -> list[str]:
    """The packages or common modules that one statement imports; names of the facade count as the facade."""
    if isinstance(node, ast.Import):
        dotted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        package = ["idm_lib", *parts[:-1]]
        stem = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        base = ".".join(part for part in (stem, node.module or "") if part)
        dotted = [f"{base}.{alias.name}" for alias in node.names] if base == "idm_lib" else [base]
    else:
        return []
    found = []
    for name in dotted:
        first, _, rest = name.partition(".")
        if first == "idm_lib":
            head = rest.split(".")[0]
            exists = head and ((library / head).is_dir() or (library / f"{head}.py").is_file())
            found.append(head if exists else FACADE)
    return found


def violations(edges: Edges) -> list[str]:
    """Return each import that breaks the layering, a line each; empty when all point down."""
    depth = {package: row for row, layer in enumerate(LAYERS) for package in layer}
    wrong = []
    for (importer, imported), places in sorted(edges.items()):
        where = f"{importer} imports {imported} ({', '.join(places)})"
        if importer == FACADE or (imported in COMMON and (importer, imported) not in APART):
            continue
        if importer in COMMON:
            wrong.append(f"{where}: a common module imports no layer")
        elif importer not in depth or imported not in {*depth, FACADE, *COMMON}:
            wrong.append(f"{where}: it has no layer; give it one in book/_ext/layers.py")
        elif imported == FACADE:
            if depth[importer]:
                wrong.append(f"{where}: only the top layer may; name the module itself")
        elif (importer, imported) in APART:
            wrong.append(f"{where}: these two must not know each other")
        elif depth[imported] < depth[importer]:
            wrong.append(f"{where}: that points up")
        elif depth[imported] == depth[importer] and (imported, importer) in edges:
            wrong.append(f"{where}, and the other way round")
    return wrong


ROW, LEFT, WIDTH = 40, 132, 480  # of the drawing, in its own units


def _between_layers(edges: Edges) -> Edges:
    packages = {package for layer in LAYERS for package in layer}
    return {pair: places for pair, places in sorted(edges.items()) if set(pair) <= packages}


def describe(edges: Edges) -> str:
    """Return the diagram in words: its alternative text."""
    shown = _between_layers(edges)
    words = []
    for package in (p for layer in LAYERS for p in layer):
        below = [imported for importer, imported in shown if importer == package]
        words.append(f"{package} imports {', '.join(below) or 'none of the others'}")
    return f"The packages of idm_lib in {len(LAYERS)} layers, top first, and what each imports: {'; '.join(words)}."


def svg(edges: Edges) -> str:
    """Return the diagram: a row a package, a band a layer, an arc an import; its colours are the page's."""
    row = {package: index for index, package in enumerate(p for layer in LAYERS for p in layer)}
    middle = {package: (index + 0.5) * ROW for package, index in row.items()}
    height = len(row) * ROW
    bands, first = [], 0
    for index, layer in enumerate(LAYERS):
        if index % 2 == 0:
            bands.append(f'<rect class="band" y="{first * ROW}" width="{WIDTH}" height="{len(layer) * ROW}"/>')
        first += len(layer)
    arcs = []
    for (importer, imported), places in _between_layers(edges).items():
        start, end = middle[importer] + 4, middle[imported] - 5
        reach = LEFT + 24 + abs(end - start) * 0.93  # control points; the curve goes three quarters of the way
        files = len({place.rpartition(":")[0] for place in places})
        kind = "arc" if end > start else "arc up"
        arcs.append(
            f'<path class="{kind}" marker-end="url(#tip)" stroke-width="{1 + 0.35 * files**0.5:.2f}" '
            f'd="M{LEFT} {start:.0f}C{reach:.0f} {start:.0f} {reach:.0f} {end:.0f} {LEFT + 7} {end:.0f}">'
            f"<title>{importer} imports {imported}, in {files} file{'s' * (files != 1)}</title></path>"
        )
    names = [
        f'<text x="14" y="{y + 5.5:.1f}">{package}</text><circle cx="{LEFT}" cy="{y:.0f}" r="4"/>'
        for package, y in middle.items()
    ]
    return (
        f'<svg class="import-diagram" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(describe(edges))}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0.5L8 4L0 7.5z"/></marker></defs>'
        f"{''.join(bands)}{''.join(arcs)}{''.join(names)}</svg>"
    )


def table(edges: Edges, library: Path) -> str:
    """Return an HTML table: each package, what it says it is, and its size."""
    rows = []
    for package in (p for layer in LAYERS for p in layer):
        files = sorted((library / package).rglob("*.py"))
        purpose = (ast.get_docstring(ast.parse((library / package / "__init__.py").read_text("utf-8"))) or "").split(
            "\n"
        )
        lines = sum(len(path.read_text("utf-8").splitlines()) for path in files)
        words = escape(purpose[0].replace("``", ""))
        rows.append(
            f"<tr><td><code>{package}</code></td><td>{words}</td><td>{len(files)}</td><td>{lines:,}</td></tr>"
        )
    head = "<tr><th>Package</th><th>What it is</th><th>Files</th><th>Lines</th></tr>"
    return (
        '<div class="pst-scrollable-table-container"><table class="table">'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


class ImportDiagram(Directive):
    """The drawing and the table, from the library's source as it is now."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return one raw node."""
        env = self.state.document.settings.env
        library = Path(env.srcdir, "idm_lib")
        for path in library.rglob("*.py"):
            env.note_dependency(str(path))
        edges = imports(library)
        return [nodes.raw("", svg(edges) + table(edges, library), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("import-diagram", ImportDiagram)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

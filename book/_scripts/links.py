"""Ask every server that the book, README and CONTRIBUTING link to whether the page is still there: ``make links``.

Run by hand, since it needs the network and what others keep up. The asking is done by Sphinx's own ``linkcheck``
builder, on one page that lists all links, so that it is patient, asks again and keeps to a server's rate limits.
"""

import json
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from build import HTML, build
from pages import read
from repo import ROOT, repository_url
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

DOI = "https://doi.org/"
# The registry's own answer to whether a DOI exists; the publishers behind it often turn programs away.
REGISTRY = "https://doi.org/api/handles/"
# A server that says one of these is there, and wants a person.
REFUSALS = {"401", "403", "405", "406", "418", "429", "451", "999"}
MARKDOWN = ("README.md", "CONTRIBUTING.md")
SETTINGS = {
    "extensions": ["myst_parser"],
    "linkcheck_anchors": False,
    "linkcheck_timeout": 20,
    "linkcheck_retries": 3,
    "linkcheck_workers": 4,
    "linkcheck_rate_limit_timeout": 60,
    "linkcheck_report_timeouts_as_broken": False,
    "linkcheck_allow_unauthorized": False,
}


def collect(html: Path, root: Path = ROOT) -> dict[str, list[str]]:
    """Return every address outside the book with the pages that link to it, from pages and from Markdown files."""
    found: dict[str, set[str]] = {}
    for path, page in read(html).items():
        for address in page.links:
            if address.startswith(("http://", "https://")):
                found.setdefault(address.partition("#")[0], set()).add(str(path.relative_to(html.resolve())))
    for name in MARKDOWN:
        for address in re.findall(r"\]\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>", (root / name).read_text("utf-8")):
            found.setdefault("".join(address).partition("#")[0], set()).add(name)
    return {address: sorted(names) for address, names in sorted(found.items())}


def ask(addresses: Iterable[str], **settings: object) -> dict[str, tuple[str, str]]:
    """Ask for every address; return for each what Sphinx calls its status, and what there is to say about it.

    Args:
        addresses: What to ask for.
        settings: Further settings of Sphinx's ``linkcheck``.
    """
    asked = {re.sub(rf"^{DOI}(?=10\.)", REGISTRY, address): address for address in addresses}
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()), docutils_namespace(), patch_docutils():
        source, out = Path(folder, "source"), Path(folder, "out")
        source.mkdir()
        source.joinpath("index.md").write_text("# Links\n\n" + "\n\n".join(f"<{a}>" for a in asked), encoding="utf-8")
        options = (
            SETTINGS | {"user_agent": f"idm_lib, checking its links {repository_url() or ''}".strip()} | settings
        )
        app = Sphinx(str(source), None, str(out), str(out), "linkcheck", options, status=None, warning=StringIO())
        app.build()
        lines = [json.loads(line) for line in (out / "output.json").read_text(encoding="utf-8").splitlines()]
    return {asked[line["uri"]]: (line["status"], line["info"]) for line in lines}


def sort(answers: dict[str, tuple[str, str]]) -> dict[str, list[str]]:
    """Return the addresses that are dead, refuse programs, gave no answer, or answer; with the reason given."""
    sorted_: dict[str, list[str]] = {"dead": [], "refuses programs": [], "gave no answer": [], "answers": []}
    for address, (status, info) in answers.items():
        code = info[:3]
        if status in ("working", "redirected"):
            kind = "answers"
        elif status in ("timeout", "ignored"):
            kind = "gave no answer"
        else:
            kind = "refuses programs" if code in REFUSALS or info == "unauthorized" else "dead"
        sorted_[kind].append(f"{address}: {info}" if info and kind != "answers" else address)
    return sorted_


def main() -> int:
    """Build the pages, ask, and report; return 1 if a link is dead."""
    if build(fresh=False, jobs=1):
        return 1
    links = collect(HTML)
    print(f"Asking for {len(links)} addresses …", flush=True)
    sorted_ = sort(ask(links))
    for kind, lines in sorted_.items():
        print(f"{len(lines):4d} {kind}")
        if kind != "answers":
            for line in lines:
                address = line.split(": ")[0]
                print(f"       {line}\n         in {', '.join(links[address])}")
    if links and not sorted_["answers"]:
        print("Not one answers; is this machine online?", file=sys.stderr)
    return 1 if sorted_["dead"] else 0


if __name__ == "__main__":
    sys.exit(main())

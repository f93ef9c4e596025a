"""Open a page in which the model runs: pick a photo, choose the ratio, watch the steps.

  idm demo
  idm demo --out demo.html --no-open

The page is one file. It needs a browser and nothing else: no server, no network, no Python. So it can be kept, put on
a stick, or sent to someone; the photos that are dropped on it stay in the browser.
"""

import argparse
import webbrowser
from pathlib import Path

from idm_lib.cli.arguments import checked, count
from idm_lib.cli.writing import write

SUMMARY = "open a page in which the model runs, in the browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--out", default="idm-demo.html", metavar="FILE.html", help="what to write (idm-demo.html)")
    parser.add_argument("--no-open", action="store_true", help="write the page and leave it at that")
    parser.add_argument(
        "--model", default="tiny", help="a model with wired steps and a wavelet start: tiny, or a folder (tiny)"
    )
    parser.add_argument(
        "--size",
        type=checked(count),
        default=256,
        metavar="N",
        help="side of the images in pixels, a multiple of 32, at most 288 (256)",
    )


def run(options: argparse.Namespace) -> int:
    """Export, write, open."""
    from idm_lib.errors import InputError
    from idm_lib.export import page
    from idm_lib.notebook.demo import demo_content

    path = Path(options.out)
    if path.suffix not in (".html", ".htm"):
        raise InputError(f"--out must end in .html, for a browser to know what it is; got {options.out}.")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; create it, or give another --out.")
    exported, photos = demo_content(options.model, options.size)
    text = page(exported, photos, "A photo from a tenth of its numbers")
    write(path.parent, path.name, lambda file: file.write_text(text, encoding="utf-8"))
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, opens in any browser, offline")
    if not options.no_open and not webbrowser.open(path.resolve().as_uri()):
        print("No browser was found here; open the file in one.")
    return 0

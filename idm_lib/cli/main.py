"""``idm``: one parser, one module for each command, one-line errors, exit codes 0, 1 and 2."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from idm_lib import __version__
from idm_lib.cli.arguments import Parser, UsageError
from idm_lib.errors import InputError

_COMMANDS = ("reconstruct", "measure", "evaluate", "train", "plan", "bench", "demo")

_ABOUT = """\
Recover images from a fraction of their numbers.

An image is measured: each measurement is one sum over pixels, every pixel with a weight of its own. From far fewer
measurements than pixels a model that knows what photographs look like gives the image back. Try it on a photo:

  idm reconstruct photo.jpg --ratio 0.1

This measures the photo with a tenth of its numbers, reconstructs it from them alone, and writes photo-comparison.png
for you to look at. It prints the quality in decibels (about 25 rough, 30 good, 40 hard to tell from the photo), and
what it predicted without the photo, from a few measurements that it held back.

To play with it, without typing anything more:

  idm demo                                               a page in which the model runs, offline, in your browser

Then:

  idm reconstruct photo.jpg --ratio 0.1 --method pinv    what the measurements show without a model
  idm reconstruct photo.jpg --ratio 0.1 --method tv      what was best before there were networks
  idm measure photo.jpg --ratio 0.1 --out photo.npz      keep the measurements, with the operator that took them
  idm reconstruct --measurements photo.npz               recover what was measured; the photo is not needed
  idm evaluate --images DIR --ratio 0.1                  the average quality over a folder of images
  idm train --config tiny --data DIR                     train a model of your own; stop and resume at will
  idm plan --model sd15 --batch 8 --budget-gib 15        what fits a GPU, counted without one
  idm bench                                              repeat the book's recorded measurements

A ratio is measurements per pixel, in (0, 1]. A model is a name that comes with the package (tiny, prior-tiny), a
folder, or a hub id. The same --seed gives the same operator, and the same result.

Each command explains itself: idm COMMAND --help. The book that goes with it begins with a photo, too.
Exit codes: 0 all done, 1 some input could not be used, 2 the command line was wrong.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(prog="idm", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"idm_lib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _COMMANDS:
        module = import_module(f"idm_lib.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        argv: the words after ``idm``; those of this process by default.

    Raises:
        SystemExit: with code 2 for a wrong command line, 0 after --help and --version.
    """
    options = build_parser().parse_args(argv)
    try:
        return options.run(options)
    except UsageError as error:
        options.parser.error(str(error))
    except InputError as error:
        print(f"idm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("idm: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `idm … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1

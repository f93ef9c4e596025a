"""``idm``: one parser, one module for each command, one-line errors, exit codes 0, 1 and 2."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from idm_lib import __version__
from idm_lib.cli.arguments import Parser, UsageError
from idm_lib.errors import InputError

_COMMANDS = ("reconstruct", "measure", "evaluate", "train", "plan", "bench")

_ABOUT = """\
Recover images from a fraction of their numbers.

  idm reconstruct photo.jpg --ratio 0.1        measure a photo with a tenth of its numbers, and get it back
  idm measure photo.jpg --out photo.npz        keep the measurements, with the operator that took them
  idm reconstruct --measurements photo.npz     recover what was measured
  idm evaluate --images DIR --ratio 0.1        the average quality over a folder of images
  idm train --config prior-tiny --data DIR     train the diffusion prior
  idm plan --model sd15 --batch 8              what a training step costs in memory and time
  idm bench NAME                               repeat a recorded measurement

Each command explains itself: idm COMMAND --help.
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

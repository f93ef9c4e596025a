"""The ``idm`` command."""

from idm_lib.cli.main import main

__all__ = ["main"]

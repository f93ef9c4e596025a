"""``python -m benchmarks``: every benchmark that needs no files of the user's, one after another."""

import sys
from importlib import import_module

#: The others need a folder of images: ``idm bench solvers --images DIR``.
WITHOUT_FILES = ("operators", "engine", "plan", "step", "memory")

if __name__ == "__main__":
    for name in sys.argv[1:] or WITHOUT_FILES:
        print(f"{name}:", flush=True)
        import_module(f"benchmarks.{name}").main([])

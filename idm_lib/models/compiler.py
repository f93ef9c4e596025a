"""What torch.compile's default backend needs beside PyTorch, and what of it is not there."""

import os
import shutil
import sysconfig
from pathlib import Path

import torch


def missing_to_compile(device: torch.device) -> list[str]:
    """What is missing, each in a few words: a C++ compiler, Python's headers, on a GPU Triton; empty if nothing is.

    Args:
        device: where the compiled network is to run.
    """
    from torch.utils._triton import has_triton

    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    # The variable that knows the headers' folder in a virtual environment and with Debian's own folders, too.
    headers = Path(sysconfig.get_config_var("INCLUDEPY") or "", "Python.h")
    there = {
        "C++ compiler (on Debian: g++)": any(name and shutil.which(name) for name in names),
        "header files of Python (on Debian: python3-dev)": headers.is_file(),
        "Triton (pip install triton)": device.type == "cpu" or has_triton(),
    }
    return [name for name, found in there.items() if not found]

"""What runs on a GPU, on a pretended one: in a process of its own, for torch can be told of a device only once."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

HERE = Path(__file__).parent


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this version of torch cannot be told of a device in Python; newer ones can",
)
def test_all_cases_pass_on_a_pretended_device():
    cases, operators = HERE / "cases.py", HERE.parent / "operators"
    command = [sys.executable, "-m", "pytest", str(cases), "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run([*command, "-o", f"pythonpath={operators}"], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]

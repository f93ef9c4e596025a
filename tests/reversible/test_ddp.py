"""Two processes, without a static graph: every gradient is the mean of what one process computes."""

import subprocess
import sys
from pathlib import Path

import torch
from engine_ddp import TwoLevels, two_steps
from engine_models import worst

HERE = Path(__file__).parent


def test_gradients_of_two_processes_are_the_single_process_mean(tmp_path):
    result = tmp_path / "gradients.pt"
    command = [sys.executable, str(HERE / "engine_ddp.py")]
    arguments = ["2", str(tmp_path / "rendezvous"), str(result)]
    running = [
        subprocess.Popen([*command, str(rank), *arguments], stderr=subprocess.PIPE, text=True, cwd=HERE.parent.parent)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in running]
    assert all(process.returncode == 0 for process in running), errors
    found = torch.load(result, weights_only=True)
    names = [name for name, _ in TwoLevels("store").named_parameters()]
    assert sum(name.endswith(".v") for name in names) == 4
    expected = two_steps(TwoLevels("store"), [0, 1])
    for memory in ("checkpoint", "invert"):
        for step in range(2):
            assert len(found[memory][step]) == len(names)
            assert worst(found[memory][step], expected[step]) < 1e-6

"""The clock of an experiment: what it waits for."""

import types

import torch

from idm_lib.evaluation import reconstruct as experiment
from idm_lib.solvers.base import Solution


def test_the_clock_waits_for_the_gpu_that_holds_the_measurements(monkeypatch):
    """A GPU that is not the current one: it is waited for by name, before and after the method."""
    happened, second = [], torch.device("cuda:1")
    monkeypatch.setattr("torch.cuda.synchronize", happened.append)
    clock = experiment.__globals__["_timed"]

    def method(y, op):
        happened.append("method")
        return Solution(torch.zeros(1, 1, 2, 2))

    clock(method, types.SimpleNamespace(device=second, is_cuda=True), None)
    assert happened == [second, "method", second]
    happened.clear()
    clock(method, torch.zeros(1, 2), None)
    assert happened == ["method"]

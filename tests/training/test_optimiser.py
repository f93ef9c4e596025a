"""The optimiser: one kernel or many make the same update."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from idm_lib.training.config import OptimiserConfig
from idm_lib.training.optimiser import make_optimiser, set_learning_rate


class Scheduled(nn.Module):
    """A layer, and a schedule with a learning rate of its own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2, dtype=torch.float64)
        self.alpha = nn.Parameter(torch.full((4,), 0.5, dtype=torch.float64))

    def forward(self, x):
        return self.layer(x).square().sum() * self.alpha.sum()


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_fused_update_is_the_same_update(kind):
    torch.manual_seed(0)
    config = OptimiserConfig(kind=kind, lr=1e-2, schedule_lr=5e-2, weight_decay=0.1 if kind == "adamw" else 0.0)
    one = Scheduled()
    other, first = copy.deepcopy(one), copy.deepcopy(one)
    optimisers = [make_optimiser(one, config), make_optimiser(other, config, fused=True)]
    assert [o.defaults.get("fused") for o in optimisers] == [None, True]
    for step in range(5):
        x = torch.randn(4, 3, dtype=torch.float64)
        for model, optimiser in zip((one, other), optimisers, strict=True):
            set_learning_rate(optimiser, config.lr / (step + 1))
            optimiser.zero_grad()
            model(x).backward()
            optimiser.step()
    for a, b, start in zip(one.parameters(), other.parameters(), first.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
        assert not torch.allclose(a, start)


def test_a_run_goes_on_whichever_way_it_began():
    config = dataclasses.replace(OptimiserConfig(), lr=1e-2)
    x, states = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3), []
    for began, goes_on in ((True, False), (False, True)):
        torch.manual_seed(0)
        model = Scheduled()
        optimiser = make_optimiser(model, config, fused=began)
        for resumed in (False, True):
            if resumed:
                kept = copy.deepcopy(optimiser.state_dict())
                optimiser = make_optimiser(model, config, fused=goes_on)
                optimiser.load_state_dict(kept)
            optimiser.zero_grad()
            model(x).backward()
            optimiser.step()
        states.append([p.detach() for p in model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*states, strict=True))

"""What the policies promise, counted on a small model with attention and injectors; gradients agree."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import idm_lib as idm
from idm_lib.memory.policy import NAMES
from idm_lib.models.runs import WiredRun
from idm_lib.reversible import ATTENTION, WiredCoupling

SMALL = {
    "block_channels": (16, 32), "attention": (True, True), "injectors": (True, True), "attention_heads": 2,
    "norm_groups": 4, "layers_per_block": 1, "bottleneck_repeat": 1,
}  # fmt: skip
ATTENTIONS = 2 * (1 + 2)  # at each of two levels one in the encoder and two in the decoder
POLICIES = {name: idm.MemoryPolicy.named(name) for name in NAMES}


class Count(TorchDispatchMode):
    """Counts the fused attention kernels, forward and backward."""

    def __init__(self):
        super().__init__()
        self.forward = self.backward = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__ if isinstance(func, torch._ops.OpOverload) else ""
        self.forward += name in ATTENTION
        self.backward += name.removesuffix("_backward") in ATTENTION - {name}
        return func(*args, **(kwargs or {}))


def make(steps=3):
    torch.manual_seed(0)
    model = idm.InvertibleDiffusion(steps=steps, **SMALL).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "injectors" in name or name.endswith(".m"):
                p.add_(0.1 * torch.randn_like(p))  # nothing that starts at zero hides a missing gradient
    op = idm.BlockCS((16, 16), ratio=0.3, block_size=8)
    return model, op, torch.rand(2, 1, 16, 16, dtype=torch.float64)


def train(model, op, x, policy):
    """One step; calls of each layer and attention kernels run."""
    calls, handles = Counter(), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.GroupNorm):
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: calls.update([name])))
    model.zero_grad()
    with Count() as kernels:
        (model(op.A(x), op, memory=policy) - x).square().mean().backward()
    for handle in handles:
        handle.remove()
    return calls, kernels


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("name", ["default", "fast", "store"])
def test_attention_is_computed_once_a_step_and_back_propagated_once(name, steps):
    _, kernels = train(*make(steps), POLICIES[name])
    assert (kernels.forward, kernels.backward) == (steps * ATTENTIONS, steps * ATTENTIONS)


def test_without_keeping_it_attention_is_computed_as_often_as_its_layer():
    _, kernels = train(*make(3), POLICIES["lean"])
    assert kernels.forward == (3 + 3 + 2) * ATTENTIONS
    _, kernels = train(*make(3), idm.MemoryPolicy(keep_steps=2))
    assert kernels.forward == 3 * ATTENTIONS


@pytest.mark.parametrize(("name", "steps", "passes"), [
    ("store", 3, 3), ("default", 3, 8), ("lean", 3, 8), ("fast", 3, 6), ("fast", 5, 10), ("default", 5, 14),
    ("paper", 3, 9),
])  # fmt: skip
def test_forwards_per_layer(name, steps, passes):
    """3 − k/T of each layer inside a run or a block, encoder and decoder alike; ``passes`` is T times that."""
    calls, _ = train(*make(steps), POLICIES[name])
    inside = {n: c for n, c in calls.items() if "blocks." in n and "injectors" not in n}
    assert any("down_blocks" in n for n in inside)
    assert any("up_blocks" in n for n in inside)
    assert set(inside.values()) == {passes}


@pytest.mark.parametrize("name", NAMES)
def test_no_layer_is_back_propagated_twice_in_a_step(name):
    """Least of all an encoder's, whose skips the decoder needs: one weight gradient for each layer and step."""
    model, op, x = make(3)
    model.zero_grad()
    shapes = Counter()

    class Backward(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution_backward.default and args[10][1]:
                shapes[tuple(args[2].shape)] += 1  # a weight's gradient
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.bmm.default and tuple(result.shape[1:]) in mixes:
                shapes[*result.shape[1:], 1, 1] += 1  # one of an injector's, which multiplies matrices
            return result

    mixes = {tuple(m.weight.shape[:2]) for n, m in model.named_modules() if "injectors" in n and hasattr(m, "weight")}
    with Backward():
        (model(op.A(x), op, memory=POLICIES[name]) - x).square().mean().backward()
    expected = Counter()
    for module, m in model.named_modules():
        if isinstance(m, nn.Conv2d):
            expected[tuple(m.weight.shape)] += 1 if "injectors" in module else 3  # an injector belongs to one step
    assert shapes == expected


def test_gradients_are_equal_under_every_policy():
    model, op, x = make(3)
    found = {}
    for name, policy in POLICIES.items():
        train(model, op, x, policy)
        found[name] = {n: p.grad.clone() for n, p in model.named_parameters()}
    largest = max(float(g.abs().max()) for g in found["store"].values())
    for name in NAMES:
        for key, gradient in found["store"].items():
            assert float((found[name][key] - gradient).abs().max()) < 1e-11 * largest, (name, key)


def test_wiring_scalars_are_read_once_an_update(monkeypatch):
    """A number from a GPU has to be waited for: once for the network, and yet never a stale one."""
    torch.manual_seed(0)
    model = idm.InvertibleDiffusion(steps=3, **SMALL)
    op = idm.BlockCS((16, 16), 0.5, block_size=8)
    y = op.A(torch.rand(1, 1, 16, 16))
    runs = [m for m in model.modules() if isinstance(m, WiredRun) and m is not model.chain]  # float64, come what may
    reads, values = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: reads.append(t) or values(t))
    monkeypatch.setattr(WiredCoupling, "weights", None)  # which would read a link's own

    def step():
        reads.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(y, op, idm.MemoryPolicy.paper()).mean()
        loss.backward()
        return len(reads)

    assert len(runs) > 3
    assert step() == 1, "of so many runs, three evaluations of each in three steps"
    assert step() == 0
    with torch.no_grad():
        for v in runs[0].v:
            v.add_(0.1)
    assert step() == 1
    links = runs[0].links([torch.nn.Identity()] * len(runs[0].v))
    assert [link.amplification() for link in links] == pytest.approx([1 / 0.6] * len(links))

"""Uses that a model must bear: gradients to y, two of everything at once, an operator for each image."""

from itertools import product

import pytest
import torch
from threads import at_once
from torch import nn

import idm_lib as idm
from idm_lib.memory import MemoryPolicy
from idm_lib.operators import LinearOperator, dot_test, pseudo_inverse_test

POLICIES = ("store", "paper", "least", "lean", "default", "fast")
SMALL = {
    "block_channels": (8, 16),
    "attention": (False, True),
    "attention_heads": 2,
    "norm_groups": 4,
    "layers_per_block": 1,
    "bottleneck_repeat": 1,
    "steps": 2,
}


def diffusion(schedule="state-evolution", seed=0, wired=True, injectors=True, **changes):
    """A small model in float64, with nothing left silent."""
    torch.manual_seed(seed)
    options = SMALL | {
        "injectors": (injectors, injectors),
        "noise_channels": 8 if schedule == "state-evolution" else 0,
        "wired_steps": wired,
        "wired_blocks": wired,
    }
    model = idm.InvertibleDiffusion(schedule=schedule, **options | changes).double()
    for name, p in model.named_parameters():
        if "i2f" in name or name.endswith(".m"):
            nn.init.normal_(p, std=0.2)
    return model


def images(batch=2, height=8, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64)


def step(model, y, op, target, policy="default"):
    """The output, and the gradients of a loss with respect to y and every parameter."""
    y = y.detach().clone().requires_grad_()
    out = model(y, op, memory=MemoryPolicy.named(policy))
    loss = (out - target).square().mean()
    return [out.detach(), *torch.autograd.grad(loss, [y, *model.parameters()], allow_unused=True)]


def close(found, expected, tolerance):
    """Each tensor within ``tolerance`` of the largest entry; a gradient that is absent is absent in both."""
    for f, e in zip(found, expected, strict=True):
        assert (f is None) == (e is None)
        if e is not None:
            assert float((f - e).abs().max()) <= tolerance * float(e.abs().max().clamp_min(1e-6))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("schedule", "wired", "injectors"), list(product(("paper", "state-evolution"), (True, False), (True, False)))
)
def test_the_gradient_with_respect_to_y_is_right(schedule, wired, injectors, policy):
    """Against finite differences in float64, along random directions."""
    op, model = idm.BlockCS((8, 12), 0.5), diffusion(schedule, wired=wired, injectors=injectors)
    y = op.A(images()).requires_grad_()
    memory = MemoryPolicy.named(policy)
    assert torch.autograd.gradcheck(lambda y: model(y, op, memory=memory), y, fast_mode=True, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("policies", [("default", "default"), ("paper", "store"), ("lean", "fast")])
def test_two_models_two_operators_two_threads_at_once_are_as_alone(policies):
    x = images()
    cases = []
    for number, (schedule, policy) in enumerate(zip(("paper", "state-evolution"), policies, strict=True)):
        op = idm.BlockCS((8, 12), 0.3 + 0.2 * number, seed=number)
        cases.append((diffusion(schedule, seed=number), op.A(x), op, x, policy))
    alone = [step(*case) for case in cases]
    found = at_once(*(lambda case=case: [step(*case) for _ in range(3)] for case in cases))
    for expected, repeated in zip(alone, found, strict=True):
        for each in repeated:
            close(each, expected, 0.0)


def test_two_models_and_two_operators_interleaved_are_as_alone():
    x = images()
    ops = [idm.BlockCS((8, 12), ratio, seed=seed) for seed, ratio in enumerate((0.3, 0.5))]
    models = [diffusion("paper", seed=0), diffusion("state-evolution", seed=1)]
    alone = [step(m, op.A(x), op, x) for m, op in zip(models, ops, strict=True)]
    ys = [op.A(x).requires_grad_() for op in ops]
    outs = [m(y, op) for m, y, op in zip(models, ys, ops, strict=True)]
    losses = [(out - x).square().mean() for out in outs]
    for which in (1, 0):
        wanted = [ys[which], *models[which].parameters()]
        found = torch.autograd.grad(losses[which], wanted, allow_unused=True)
        close([outs[which].detach(), *found], alone[which], 0.0)


@pytest.mark.parametrize("policies", [("default", "default"), ("paper", "store"), ("lean", "fast")])
def test_one_model_trained_in_two_threads_sums_both_gradients(policies):
    x, model = images(), diffusion()
    ops = [idm.BlockCS((8, 12), 0.5, seed=seed) for seed in range(2)]

    def backward(op, policy):
        (model(op.A(x), op, memory=MemoryPolicy.named(policy)) - x).square().mean().backward()

    def gradients():
        found = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        return found

    for op, policy in zip(ops, policies, strict=True):
        backward(op, policy)
    expected = gradients()
    for _ in range(3):
        at_once(
            *(lambda op=op, policy=policy: backward(op, policy) for op, policy in zip(ops, policies, strict=True))
        )
        close(gradients(), expected, 1e-12)


class Masks(LinearOperator):
    """Inpainting with a mask for each image: y is the image with unseen pixels at zero, (B, H·W)."""

    true_ratio = 0.5

    def __init__(self, masks):
        super().__init__()
        self.masks = masks  # (B, 1, H, W)

    def A(self, x):
        return (self.masks * x).flatten(1)

    def A_adjoint(self, y):
        return self.masks * y.reshape(self.masks.shape)

    A_dagger = A_adjoint


def permutations(batch):
    """A batch in which each image has its own order of pixels, and the operators of each image alone."""
    seeds = [11 + n for n in range(batch)]
    together = idm.BlockCS((8, 12), 0.4, permutation_seed=seeds)
    return together, [idm.BlockCS((8, 12), 0.4, permutation_seed=seed) for seed in seeds]


def masks(batch):
    """A batch in which each image has its own mask, and the operators of each image alone."""
    drawn = torch.rand(batch, 1, 8, 12, generator=torch.Generator().manual_seed(3)).gt(0.5).double()
    return Masks(drawn), [Masks(drawn[n : n + 1]) for n in range(batch)]


@pytest.mark.parametrize("make", [permutations, masks])
def test_an_operator_for_each_image_is_an_operator(make):
    together, alone = make(3)
    x = images(3)
    assert dot_test(together, (3, 1, 8, 12)) < 1e-12
    assert pseudo_inverse_test(together, (3, 1, 8, 12)) < 1e-12
    y = torch.cat([op.A(x[n : n + 1]) for n, op in enumerate(alone)])
    assert torch.allclose(together.A(x), y, atol=1e-13)
    assert not torch.allclose(alone[0].A(x[:1]), alone[1].A(x[:1])), "they differ"


@pytest.mark.parametrize("make", [permutations, masks])
@pytest.mark.parametrize("schedule", ["paper", "state-evolution"])
@pytest.mark.parametrize("policy", ["store", "default"])
def test_an_operator_for_each_image_is_as_one_by_one(make, schedule, policy):
    """Injectors and training included: outputs and gradients to y of each, and the sum of the weights' gradients."""
    together, alone = make(3)
    x, model = images(3), diffusion(schedule)
    out, g_y, *weights = step(model, together.A(x), together, x, policy)
    singles = [step(model, op.A(x[n : n + 1]), op, x[n : n + 1], policy) for n, op in enumerate(alone)]
    close([out, 3 * g_y], [torch.cat([s[0] for s in singles]), torch.cat([s[1] for s in singles])], 1e-9)
    for number, weight in enumerate(weights):
        parts = [s[2 + number] for s in singles]
        assert (weight is None) == (parts[0] is None)
        if weight is not None:
            close([weight], [sum(parts) / 3], 1e-9)


def test_tiles_know_which_operator_belongs_to_which_image():
    together, alone = permutations(2)
    x, model = images(2), diffusion().eval()
    ready = idm.optimised(model, idm.InferenceOptions(tile=8, overlap=4))
    singles = [ready(op.A(x[n : n + 1]), op) for n, op in enumerate(alone)]
    assert torch.allclose(ready(together.A(x), together), torch.cat(singles), atol=1e-10)

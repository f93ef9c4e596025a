"""The three kinds of memory compute one function and one gradient."""

import pytest
import torch
from engine_models import MODES, ConvBody, loss_of, relative, streams, wired_chain, worst
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idm_lib.reversible import AdditiveCoupling, AffineCoupling, FreeCoupling, ReversibleChain, WiredCoupling


@pytest.mark.parametrize("memory", MODES)
def test_gradcheck_over_inputs_v_extras_and_parameters(memory):
    chain = wired_chain([0.4, 0.7, 0.5], channels=2)
    x1, x2 = streams((1, 2, 3, 2))
    extra = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    parameters = list(chain.parameters())

    def function(x1, x2, extra, *_):
        return chain(x1, x2, extras=[(), (extra,), (extra, None)], memory=memory)

    assert torch.autograd.gradcheck(function, (x1, x2, extra, *parameters), fast_mode=False)


@pytest.mark.parametrize("memory", MODES)
def test_gradcheck_of_the_other_couplings(memory):
    torch.manual_seed(0)
    links = [AffineCoupling(nn.Conv2d(2, 4, 3, padding=1)), AdditiveCoupling(ConvBody(2)), WiredCoupling(ConvBody(2))]
    links.append(FreeCoupling(ConvBody(2), v=0.4, u=0.9))
    chain = ReversibleChain(links).double()
    x1, x2 = streams((1, 2, 3, 2))

    def function(x1, x2, *_):
        return chain(x1, x2, memory=memory)

    assert torch.autograd.gradcheck(function, (x1, x2, *chain.parameters()), fast_mode=False)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    vs=st.lists(st.floats(0.1, 0.9), min_size=1, max_size=8),
    shape=st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 6), st.integers(1, 6)),
    with_extras=st.lists(st.sampled_from(["none", "tensor", "frozen", "integer", "two"]), min_size=8, max_size=8),
    seed=st.integers(0, 2**16),
)
def test_three_kinds_of_memory_agree(vs, shape, with_extras, seed):
    chain = wired_chain(vs, seed=seed)
    x1, x2 = streams(shape, seed=seed)
    skip = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    choices = {
        "none": lambda: (),
        "tensor": lambda: (skip,),
        "frozen": lambda: (torch.ones(shape, dtype=torch.float64),),
        "integer": lambda: (None, torch.arange(3)[:, None, None]),
        "two": lambda: (skip, 2 * skip),
    }
    wanted = [x1, x2, skip, *chain.parameters()]
    results = {}
    for memory in MODES:
        extras = [choices[kind]() for kind in with_extras[: len(vs)]]
        outputs = chain(x1, x2, extras=extras, memory=memory)
        gradients = torch.autograd.grad(loss_of(*outputs), wanted, allow_unused=True)
        results[memory] = (
            outputs,
            [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)],
        )
    amplified = torch.tensor([1 / v for v in vs]).prod().item()
    bounds = {"checkpoint": 1e-12, "invert": 100 * torch.finfo(torch.float64).eps * amplified}
    for memory, bound in bounds.items():
        for output, expected in zip(results[memory][0], results["store"][0], strict=True):
            assert torch.equal(output, expected)
        assert worst(results[memory][1], results["store"][1]) < max(bound, 1e-12)


def test_inverse_of_the_chain():
    chain = wired_chain([0.5, 0.3, 0.8, 0.4])
    x1, x2 = streams(grad=False)
    skip = torch.randn_like(x1)
    extras = [(skip,), (), (skip, skip), ()]
    back = chain.inverse(*chain(x1, x2, extras=extras), extras=extras)
    assert relative(back[0], x1) < 1e-12
    assert relative(back[1], x2) < 1e-12


def test_inverse_has_gradients_too():
    chain = wired_chain([0.5, 0.6], channels=2)
    y1, y2 = streams((1, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda a, b: chain.inverse(a, b), (y1, y2), fast_mode=False)


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_evaluations_of_each_body_per_training_step(memory):
    chain = wired_chain([0.5] * 6)
    for kind, expected in (("store", 1), (memory, 2)):
        for link in chain.links:
            link.body.calls = 0
        loss_of(*chain(*streams(), memory=kind)).backward()
        assert [link.body.calls for link in chain.links] == [expected] * 6


def test_skip_from_an_earlier_chain_costs_two_evaluations_and_one_backpropagation_of_it():
    encoder, decoder = wired_chain([0.5] * 3, seed=1), wired_chain([0.5] * 4, seed=2)
    backpropagations = []
    for link in encoder.links:
        link.body.first.register_full_backward_hook(lambda *_: backpropagations.append(1))
    x1, x2 = streams()
    skip, other = encoder(x1, x2)
    h = decoder(skip, other, extras=[(skip,), (other,), (skip, other), (skip,)])
    loss_of(*h).backward()
    assert [link.body.calls for link in encoder.links] == [2] * 3
    assert [link.body.calls for link in decoder.links] == [2] * 4
    assert len(backpropagations) == 3


def test_links_below_all_that_needs_a_gradient_are_not_evaluated_again():
    chain = wired_chain([0.5] * 5)
    for link in chain.links[:3]:
        link.requires_grad_(False)
    loss_of(*chain(*streams(grad=False))).backward()
    assert [link.body.calls for link in chain.links] == [1, 1, 1, 2, 2]


def test_without_gradients_each_body_is_evaluated_once_and_nothing_is_kept():
    chain = wired_chain([0.5] * 3)
    with torch.no_grad():
        h1, _ = chain(*streams())
    assert not h1.requires_grad
    with torch.inference_mode():
        x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
        chain(x, x)
    assert [link.body.calls for link in chain.links] == [2] * 3
    chain.requires_grad_(False)
    h1, _ = chain(*streams(grad=False))
    assert h1.grad_fn is None

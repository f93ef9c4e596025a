"""Threads: chains on modules of their own never wait; chains that share modules take turns and lose nothing."""

import copy
import pickle
import threading

import pytest
import torch
from engine_models import MODES, ConvBody, loss_of, streams, wired_chain
from threads import at_once
from torch import nn

from idm_lib.reversible import ReversibleChain, WiredCoupling
from idm_lib.reversible.parameters import turns


def gradients(chain, seed, memory, parameters=None):
    """``parameters`` are listed beforehand where another thread may have stand-ins in their place."""
    x = streams(seed=seed)
    wanted = [*x, *(parameters or chain.parameters())]
    return torch.autograd.grad(loss_of(*chain(*x, memory=memory)), wanted)


def equal(found, expected):
    return all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


class Meeting(nn.Module):
    """A body that, in the backward pass of one thread, lets another thread in, and waits for it for a while."""

    def __init__(self):
        super().__init__()
        self.body = ConvBody()
        self.met = []  # set by the test: the thread to halt, an event to set and one to wait for

    def forward(self, x):
        if self.met and threading.get_ident() == self.met[0] and torch.is_grad_enabled():
            self.met[1].set()
            self.met[2].wait(timeout=0.5)
        return self.body(x)


@pytest.mark.parametrize("memory", MODES)
def test_a_thread_that_comes_in_the_middle_of_anothers_backward_pass(memory):
    """While the first thread's stand-ins are in place, the second runs forward and backward on the same modules."""
    torch.manual_seed(0)
    chain = ReversibleChain([WiredCoupling(Meeting()) for _ in range(2)]).double()
    expected = [gradients(chain, 1, "invert"), gradients(chain, 2, memory)]
    inside, done, parameters = threading.Event(), threading.Event(), list(chain.parameters())

    def first():
        for link in chain.links:
            link.body.met[:] = [threading.get_ident(), inside, done]
        return gradients(chain, 1, "invert", parameters)

    def second():
        assert inside.wait(timeout=30)
        found = gradients(chain, 2, memory, parameters)
        done.set()
        return found

    found = at_once(first, second)
    assert equal(found[0], expected[0])
    assert equal(found[1], expected[1])


@pytest.mark.parametrize("memory", MODES)
def test_many_passes_through_one_chain_in_four_threads(memory):
    chain = wired_chain([0.5] * 4)
    parameters = list(chain.parameters())
    expected = [gradients(chain, seed, memory) for seed in range(4)]
    jobs = [lambda s=seed: [gradients(chain, s, memory, parameters) for _ in range(10)] for seed in range(4)]
    for alone, repeated in zip(expected, at_once(*jobs), strict=True):
        assert all(equal(found, alone) for found in repeated)


def test_gradients_of_all_threads_add_up():
    chain = wired_chain([0.5] * 3)
    sums = [sum(g) for g in zip(*(gradients(chain, s, "store")[2:] for s in range(4)), strict=True)]
    at_once(*(lambda s=s: loss_of(*chain(*streams(seed=s))).backward() for s in range(4)))
    assert all(
        torch.allclose(p.grad, total, rtol=1e-9, atol=1e-12)
        for p, total in zip(chain.parameters(), sums, strict=True)
    )


def test_chains_of_their_own_do_not_wait_for_each_other():
    """Both are in the middle of their backward pass at once: each lets the other go on."""
    chains = [ReversibleChain([WiredCoupling(Meeting())]).double() for _ in range(2)]
    events = [threading.Event(), threading.Event()]
    met = []

    def job(mine, other):
        chains[mine].links[0].body.met[:] = [threading.get_ident(), events[mine], events[other]]
        gradients(chains[mine], mine, "invert")
        met.append(events[other].is_set())

    at_once(lambda: job(0, 1), lambda: job(1, 0))
    assert met == [True, True]


def test_turns_are_reentrant_and_taken_in_one_order():
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)

    def job(modules):
        for _ in range(200):
            with turns(modules), turns(modules[:1]), turns(modules[1:]):
                pass

    at_once(lambda: job([a, b]), lambda: job([b, a]))


def test_modules_that_took_turns_can_be_copied_and_pickled():
    chain = wired_chain([0.5] * 2)
    expected = gradients(chain, 1, "invert")
    for other in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert equal(gradients(other, 1, "invert"), expected)
        with turns(chain.modules()):  # held here; a copy must not wait for it
            at_once(lambda other=other: gradients(other, 1, "invert"))
    assert set(chain.state_dict()) == {name for name, _ in chain.named_parameters()}

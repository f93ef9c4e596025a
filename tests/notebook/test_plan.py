"""The plan that the diagrams draw is what the engine does: in its order of evaluations and in its bytes."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import idm_lib as idm
from idm_lib.errors import InputError
from idm_lib.memory import Meter
from idm_lib.notebook.diagrams.levels import parts_of, two_level_step
from idm_lib.notebook.diagrams.plan import GRADIENTS, INSIDE, STREAMS, evaluations, most, training_step

LINKS = 5
SIZE = 1000


class _Body(nn.Module):
    def forward(self, x):
        return x.exp()


def engine(memory: str) -> tuple[list[int], list[bool], list[float]]:
    """Of one training step: the links in the order of evaluation, whether with a graph, and tensors then alive."""
    chain = idm.ReversibleChain([idm.WiredCoupling(_Body()) for _ in range(LINKS)])
    x1, x2 = (torch.randn(1, SIZE) for _ in range(2))
    order, graph, alive = [], [], []
    with Meter() as meter:
        meter.include(x1, x2)

        def note(link: int) -> None:
            order.append(link)
            graph.append(torch.is_grad_enabled())
            alive.append(meter.live_bytes / (4 * SIZE))

        for i, link in enumerate(chain.links):
            link.body.register_forward_pre_hook(lambda module, args, i=i: note(i + 1))
        h = chain(x1, x2, memory=memory)
        loss = (h[0] * h[1].cos()).sum()
        del h
        loss.backward()
    return order, graph, alive


@pytest.mark.parametrize("memory", ["store", "checkpoint", "invert"])
def test_bodies_are_evaluated_in_the_order_of_the_plan(memory):
    order, graph, _ = engine(memory)
    assert evaluations(training_step(LINKS, memory)) == order
    assert graph == ([True] * LINKS if memory == "store" else [False] * LINKS + [True] * LINKS)


@pytest.mark.parametrize("memory", ["checkpoint", "invert"])
def test_backward_holds_as_many_streams_as_the_plan_says(memory):
    alive = engine(memory)[2][LINKS + 1 :]  # from the last link but one: the end's gradients and streams have gone
    moments = [m for m in training_step(LINKS, memory) if m.doing == "evaluate"][1:]
    planned = [moment.count(*STREAMS, *GRADIENTS) for moment in moments]
    # What is not the chain's: autograd keeps the two gradients that the loss gave, and the caller the chain's input,
    # which a chain that is checkpointed holds anyway.
    others = {"checkpoint": 2, "invert": 4}[memory]
    assert [round(real, 1) for real in alive] == [plan + others for plan in planned]


def test_storing_grows_by_an_inside_a_link_and_inverting_by_nothing():
    for memory, grows in (("store", 1), ("invert", 0)):
        forward = engine(memory)[2][:LINKS]
        steps = {round(b - a, 1) for a, b in pairwise(forward[2:])}
        planned = [m.count(INSIDE) for m in training_step(LINKS, memory) if m.doing == "forward"]
        assert [b - a for a, b in pairwise(planned)] == [grows] * (LINKS - 1)
        assert len(steps) == 1
        assert (steps.pop() > 0) == (grows > 0)


def test_the_most_that_is_held():
    for links in (1, 4, 64):
        assert most(training_step(links, "store"), INSIDE) == links
        assert most(training_step(links, "invert"), INSIDE) == 1
        assert most(training_step(links, "invert"), *STREAMS) == 2
        assert most(training_step(links, "checkpoint"), *STREAMS) == links + 2


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(InputError, match="at least one link"):
        training_step(0, "store")
    with pytest.raises(InputError, match="store, checkpoint or invert"):
        training_step(3, "forget")


def small(**changes):
    return idm.InvertibleDiffusion(block_channels=(16, 32), norm_groups=8, attention_heads=2, **changes)


@pytest.mark.parametrize("kept", [0, 1, 2, "all"])
@pytest.mark.parametrize("steps", [2, 3])
def test_each_step_is_evaluated_as_often_as_the_plan_says(steps, kept):
    model, policy = small(steps=steps), idm.MemoryPolicy(keep_steps=kept, keep_attention=False)
    op = idm.BlockCS(image_size=(32, 32), ratio=0.1)
    its = model.unet.down_blocks[0].injectors[0]  # each step has one of its own; step t the one with number t − 1
    with Meter({f"step {t}": its[t - 1] for t in range(1, steps + 1)}) as meter:
        model(op.A(torch.zeros(1, 1, 32, 32)), op, memory=policy).sum().backward()
    counted = [meter.counts().evaluations[f"step {t}"] for t in range(steps, 0, -1)]
    assert list(two_level_step(steps, policy)[-1].runs) == counted


def test_the_parts_are_the_model_s():
    with torch.device("meta"):
        model = idm.InvertibleDiffusion.named("sd15")
    encoder, decoder = parts_of(model)
    assert sum(part.links for part in encoder + decoder) == 37
    names = [name for name, _ in model.unet.named_modules()]
    for name, kind in (("down", "downsamplers.0"), ("up", "upsamplers.0")):
        there = sum(n.endswith(kind) for n in names)
        assert sum(part.name == name for part in encoder + decoder) == there == 1
    resnets = sum(len(block.resnets) for block in (*model.unet.down_blocks, *model.unet.up_blocks))
    wired = sum(same for block in model.unet.down_blocks for same in block.same_width)
    wired += sum(len(block.resnets) - 1 for block in model.unet.up_blocks)
    assert sum(part.name == "resnet" for part in encoder + decoder) == resnets - wired


def test_two_levels_of_another_kind_are_refused():
    with pytest.raises(InputError, match="checkpointed steps and inverted blocks"):
        two_level_step(3, idm.MemoryPolicy.paper())
    with torch.device("meta"), pytest.raises(InputError, match="wired blocks"):
        parts_of(small(wired_blocks=False))

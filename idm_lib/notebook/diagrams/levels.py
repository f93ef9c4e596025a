"""What a model keeps at its two levels, the steps and the blocks inside them, at each moment of a training step."""

from dataclasses import dataclass, replace

from idm_lib.errors import InputError
from idm_lib.memory import MemoryPolicy
from idm_lib.models import InvertibleDiffusion
from idm_lib.models.runs import WiredRun


@dataclass(frozen=True)
class Part:
    """A part of the U-Net, in the order of evaluation.

    Attributes:
        name: what it is.
        links: of a wired run; 0 for a part that cannot be wired.
        checkpointed: whether the part's input is kept and the part computed again.
    """

    name: str
    links: int = 0
    checkpointed: bool = False


def parts_of(model: InvertibleDiffusion) -> tuple[list[Part], list[Part]]:
    """Return the parts of the model's encoder and of its decoder.

    Raises:
        InputError: the model's blocks are not wired.
    """
    unet = model.unet
    encoder, decoder = [Part("in")], []

    def run(module: object) -> Part:
        if not isinstance(module, WiredRun):
            raise InputError("expected a model with wired blocks, got one without; a plain run cannot be inverted")
        return Part("run", len(module.v))

    for block in unet.down_blocks:
        for same, each in zip(block.same_width, block.runs, strict=True):
            encoder += [] if same else [Part("resnet", checkpointed=True)]
            encoder += [run(each)] if isinstance(each, WiredRun) or same else []
        encoder += [Part("down", checkpointed=True) for _ in block.downsamplers]
    for block in unet.up_blocks:
        decoder += [Part("resnet", checkpointed=True), run(block.run)]
        decoder += [Part("up", checkpointed=True) for _ in block.upsamplers]
    return encoder, [*decoder, Part("out")]


@dataclass(frozen=True)
class State:
    """One moment.

    Attributes:
        images: places between the steps whose image is in memory, 0 for the first.
        ends: links (a step is a link, 1 the first) whose runs' last pairs are in memory.
        runs: how often a layer has been evaluated, for each link.
        link: the link that is at work, 0 for none.
        doing: ``start``, ``forward``, ``again`` (the forward pass of one step once more) or ``invert``.
    """

    images: frozenset[int]
    ends: frozenset[int]
    runs: tuple[int, ...]
    link: int = 0
    doing: str = "start"


def two_level_step(steps: int, policy: MemoryPolicy) -> list[State]:
    """Return the moments of one training step with checkpointed steps and inverted blocks.

    Args:
        steps: T.
        policy: its ``keep_steps`` says how many of the last steps keep their runs' last pairs.

    Raises:
        InputError: a policy of another kind.
    """
    if (policy.steps, policy.blocks) != ("checkpoint", "invert"):
        raise InputError(
            f"expected checkpointed steps and inverted blocks, got {policy.steps} and {policy.blocks}; take lean, say"
        )
    kept = policy.kept_steps(steps)
    state = State(frozenset({0}), frozenset(), (0,) * steps)
    states = [state]

    def go(link: int, doing: str, images: frozenset[int], ends: frozenset[int]) -> None:
        nonlocal state
        runs = tuple(count + (k == link) for k, count in enumerate(state.runs, 1))
        state = replace(state, images=images, ends=ends, runs=runs, link=link, doing=doing)
        states.append(state)

    for link in range(1, steps + 1):
        go(link, "forward", state.images | {link}, state.ends | ({link} if link > steps - kept else set()))
    for link in range(steps, 0, -1):
        if link not in state.ends:
            go(link, "again", state.images - {link}, state.ends | {link})
        go(link, "invert", state.images - {link}, state.ends - {link})
    return states

"""The chain of steps and the chains inside each step: what either level keeps in a training step."""

from dataclasses import dataclass, replace

from idm_lib.memory import MemoryPolicy
from idm_lib.models import InvertibleDiffusion
from idm_lib.notebook.diagrams.levels import State, parts_of, two_level_step
from idm_lib.notebook.diagrams.zoom import Zoom
from idm_lib.notebook.drawing import Frame, many, number

_DOINGS = {"forward": "forward", "again": "again", "invert": "undone"}


@dataclass(frozen=True)
class _Shot:
    """A frame before it is drawn; see :meth:`Zoom.draw`."""

    title: str
    words: str
    state: State
    corner: str = "the model"
    opened: int = 0
    run: str = ""
    notes: tuple[str, ...] = ()


def two_levels(model: InvertibleDiffusion, policy: MemoryPolicy) -> list[Frame]:
    """Return the frames: the model opened from outside to inside, then one training step.

    Args:
        model: of two to four steps, with wired blocks; says how many runs of how many links there are.
        policy: with checkpointed steps and inverted blocks.

    Raises:
        InputError: a model or a policy of another kind.
    """
    steps = int(model.config.steps)
    encoder, decoder = parts_of(model)
    zoom = Zoom(steps, encoder, decoder)
    runs = [part.links for part in (*encoder, *decoder) if part.links]
    stream = model.config.block_channels[0] / 4  # to a grey image: the U-Net sees 2 × 2 pixels as one place
    frames = []
    for shot in _opening(steps, runs, stream) + _training(steps, policy, len(runs)):
        images, pairs = many(len(shot.state.images), "image"), many(len(shot.state.ends) * len(runs), "pair")
        counted = shot.corner != "the model"
        lines = (f"level 1 keeps {images}", f"level 2 keeps {pairs}") if counted else ()
        canvas = zoom.draw(shot.corner, shot.state, lines, shot.opened, shot.run, counted, shot.notes)
        alt = f"A column of {steps} steps with an image between each two; {shot.corner}. {'. '.join(lines)}"
        if shot.opened:
            alt += f" Step {steps + 1 - shot.opened} is opened: a U-Net with {many(len(runs), 'run')} of wired links."
        if shot.run:
            alt += f" One run is opened and passed {shot.run}."
        frames.append(Frame(canvas.svg(alt), shot.title, shot.words))
    return frames


def _opening(steps: int, runs: list[int], stream: float) -> list[_Shot]:
    whole = State(frozenset(range(steps + 1)), frozenset(), (0,) * steps)
    return [
        _Shot(
            "Level 1: the steps.",
            f"{many(steps, 'step')}, and a small grey image between each two.",
            whole,
            notes=("inside: a U-Net", *["inside: the same U-Net"] * (steps - 1)),
        ),
        _Shot(
            "Open a step. Level 2: its blocks.",
            f"The same U-Net works in every step. {sum(runs)} links in {many(len(runs), 'run')} (orange) are wired. "
            "The grey parts change the shape and cannot be. Skips are not drawn.",
            whole,
            opened=1,
        ),
        _Shot(
            "Open a run.",
            "A run makes a pair of its stream, sends the pair through its links, and merges it. A stream of the "
            f"finest level has {number(stream)} times the numbers of a grey image: here memory is spent.",
            whole,
            opened=1,
            run="forward",
        ),
    ]


def _training(steps: int, policy: MemoryPolicy, runs: int) -> list[_Shot]:
    states = {(state.doing, state.link): state for state in two_level_step(steps, policy)}
    kept = policy.kept_steps(steps)
    end, counts = states["invert", 1], states["invert", 1].runs
    share = f"{sum(counts)}/{steps} = 3 − {kept}/{steps}".replace(" ", "\u00a0")  # on one line
    most = max(len(state.ends) for state in states.values())
    ahead, back = "training: ↓ forward", "training: ↑ back"

    def inverting(link: int) -> State:
        return replace(states["invert", link], ends=states["invert", link].ends | {link})

    shots = []
    if kept < steps:
        shots.append(
            _Shot(
                "Forward, and forget.",
                f"Step {steps} is done. Of all that was computed inside it nothing is kept, only the images outside.",
                states["forward", 1],
                ahead,
                opened=1,
            )
        )
    if kept:
        its = "The last step" if kept == 1 else f"The last {kept} steps"
        shots.append(
            _Shot(
                f"{its} keep{'s' * (kept == 1)} more.",
                f"The way back begins here. So each of the {many(runs, 'run')} keeps its last pair (the dots), and "
                "each part that is checkpointed its input (the squares).",
                states["forward", steps],
                ahead,
                opened=steps,
            )
        )
        shots.append(
            _Shot(
                "Back: undo the runs.",
                "From its last pair a run is undone link by link, with the inside of one body in memory at a time. "
                "That computes each layer a second time.",
                inverting(steps),
                back,
                opened=steps,
                run="backward",
            )
        )
    if kept < steps:
        link = steps - kept  # the last that was forgotten
        step = f"Step {steps + 1 - link}"
        shots += [
            _Shot(
                f"{step} once more, from its image.",
                "Its last pairs were not kept. So run it forward again, and keep them now; those of the step below "
                "are gone.",
                states["again", link],
                back,
                opened=link,
            ),
            _Shot(
                "And undo it.",
                "Now its runs can be undone like the others. That is the third time that a layer is computed for "
                "this step.",
                inverting(link),
                back,
                opened=link,
                run="backward",
            ),
        ]
    shots.append(
        _Shot(
            "Count.",
            f"A layer was computed {' + '.join(map(str, counts))} times: {share} a step. "
            f"Never were more than {many(most * runs, 'pair')} in memory: those of {many(most, 'step')}.",
            end,
            back,
            notes=tuple(" + ".join(_DOINGS[d] for d, k in states if k == link) for link in range(1, steps + 1)),
        )
    )
    return shots

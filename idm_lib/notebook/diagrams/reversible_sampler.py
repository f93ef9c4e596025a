"""The wired sampling chain in training: forward without storing, and its images rebuilt on the way back."""

from idm_lib.errors import InputError
from idm_lib.models import InvertibleDiffusion
from idm_lib.notebook.diagrams.column import Column
from idm_lib.notebook.diagrams.plan import INSIDE, STREAMS, Moment, evaluations, most, training_step
from idm_lib.notebook.drawing import SMALL, Frame


def reversible_sampler(model: InvertibleDiffusion) -> list[Frame]:
    """Return the frames of one training step with ``MemoryPolicy(steps="invert")``, and what a checkpoint keeps.

    Args:
        model: with wired steps, of two to six.

    Raises:
        InputError: the steps are not wired, or the drawing has no room for as many.
    """
    if not model.config.wired_steps or model.config.steps < 2:
        raise InputError(
            "expected a model with at least two wired steps, got another; others cannot be run backwards"
        )
    column = Column(model)
    steps = column.steps
    plan = training_step(steps, "invert")
    inverted = {(m.doing, m.link): m for m in plan}
    kept = {(m.doing, m.link): m for m in training_step(steps, "checkpoint")}
    first, last = column.name(1), column.name(steps)
    frames, seen = [], inverted["start", 0]

    def add(moment: Moment, now: tuple[int, ...], title: str, words: str, mark: str = "") -> None:
        nonlocal seen
        frames.append(Frame(_draw(column, moment, seen, now, mark), title, words))
        seen = moment

    add(
        inverted["start", 0],
        (),
        "Two images instead of one.",
        "x₁ will go through the steps. x₂ is its companion: at first the same image, times a learned number.",
    )
    add(
        inverted["forward", 1],
        (1,),
        f"{first.capitalize()}, and forget.",
        "The new x₁ is a mixture: (1−v) times the step's answer, plus v times the old x₂. The old x₁ moves over and "
        "is the new x₂. What was computed inside the step is dropped.",
    )
    add(
        inverted["forward", steps],
        tuple(range(2, steps + 1)),
        "Only the last pair is left.",
        f"Plain backpropagation would have {most(training_step(steps, 'store'), INSIDE)} insides in memory by now.",
    )
    add(
        inverted["evaluate", steps],
        (steps,),
        f"Back: {last} once more.",
        f"x₂ below is the image that {last} was given. Move it up to be x₁ again, and compute the step on it. Its "
        "inside is in memory now, and no other.",
    )
    add(
        inverted["rebuild", steps],
        (steps,),
        "Solve for the other image.",
        "Take the step's share out of the mixture, divide by v: there is the old x₂. Nothing had been stored.",
    )
    add(
        inverted["differentiate", steps],
        (steps,),
        "Pass the gradient on, and forget.",
        f"The gradients g₁ and g₂ go through {last}. Then its inside is dropped.",
    )
    add(
        inverted["differentiate", 1],
        tuple(range(1, steps)),
        "So to the start.",
        f"Never more than {most(plan, INSIDE)} inside at a time, however many steps: with 10 it is "
        f"{most(training_step(10, 'invert'), INSIDE)} too. The price: each step was "
        f"computed {len(evaluations(plan)) // steps} times.",
    )
    add(
        kept["forward", steps],
        (),
        "Or keep the images.",
        "A checkpoint has kept every x₁, and each x₂ is the x₁ above it: nothing is solved for, nothing rounded. "
        "Insides are dropped and steps computed twice all the same. The price is one grey image a step.",
        "instead",
    )
    return frames


def _draw(column: Column, moment: Moment, seen: Moment, now: tuple[int, ...], mark: str) -> str:
    back = moment.doing in ("evaluate", "rebuild", "differentiate")
    title = "checkpoint: ↓ forward" if mark else "training: ↑ back" if back else "training: ↓ forward"
    canvas = column.draw(title, moment.held, seen.held, now, moment.doing == "differentiate")
    canvas.text(262, 44, "insides in memory", size=SMALL, bold=True)
    column.insides(canvas, moment.held, seen.held)
    words = column.counts(canvas, inside=moment.count(INSIDE), image=moment.count(*STREAMS))
    return canvas.svg(f"The chain of {column.steps} steps with a pair of images between them, {title}; {words}.")

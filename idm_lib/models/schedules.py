"""Which schedules a chain can follow, where it can begin, and which of its numbers go together."""

from math import inf
from typing import Any

from idm_lib.errors import InputError

#: ``paper``: learnable α, and a U-Net that is told no noise level. ``state-evolution``: the residual tells it, for
#: operators whose rows look at random. ``levels``: a learned ladder, for any operator.
SCHEDULES = ("paper", "state-evolution", "levels")
#: ``grey``: an image that owes nothing to the measurements. ``wavelets``: what shrinkage alone makes of them.
STARTS = ("grey", "wavelets")


def check_schedule(schedule: str, start: str, noise_channels: int, ladder: Any, divergence: bool) -> None:
    """Refuse a schedule, a start or a ladder that there is not, or that do not go together.

    Raises:
        InputError: what was given, and what goes.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}; got {schedule!r}.")
    if (schedule != "paper") != (noise_channels > 0):
        raise InputError(
            f"the paper's schedule, and no other, leaves the U-Net without its noise level; "
            f"got schedule {schedule!r} with noise_channels {noise_channels}."
        )
    if start not in STARTS or (start != "grey" and schedule == "paper"):
        raise InputError(
            f"start must be one of {', '.join(STARTS)}, and grey with the paper's schedule, which begins at A⁺y; "
            f"got {start!r} with schedule {schedule!r}."
        )
    if not divergence and schedule != "state-evolution":
        raise InputError(
            f"divergence=False leaves a term out of the state-evolution schedule, and {schedule!r} has no such term; "
            "give divergence=True."
        )
    numbers = (
        isinstance(ladder, list | tuple) and len(ladder) == 2 and all(isinstance(n, int | float) for n in ladder)
    )
    if not numbers or not inf > ladder[0] >= ladder[1] > 0:
        raise InputError(
            f"ladder must be the first and the last noise level, falling, as (0.2, 0.02); got {ladder!r}."
        )

"""Pseudo-inverse, total variation, DDNM, plug-and-play, OAMP, and a fine-tuned chain; one call signature for all."""

from idm_lib.errors import InputError
from idm_lib.solvers.base import Solution, Solver
from idm_lib.solvers.ddnm import ddnm
from idm_lib.solvers.fine_tuned import fine_tuned
from idm_lib.solvers.oamp import oamp
from idm_lib.solvers.pinv import pinv
from idm_lib.solvers.pnp import pnp
from idm_lib.solvers.tv import tv

__all__ = [
    "METHODS",
    "Solution",
    "Solver",
    "ddnm",
    "fine_tuned",
    "get_solver",
    "needs_prior",
    "oamp",
    "pinv",
    "pnp",
    "tv",
]

#: Names of the solvers that need no fine-tuning; on compressed sensing in rising order of quality, pnp aside.
METHODS = ("pinv", "tv", "ddnm", "pnp", "oamp")


def get_solver(name: str) -> Solver:
    """The solver of that name.

    Raises:
        InputError: there is none.
    """
    solvers = {"pinv": pinv, "tv": tv, "ddnm": ddnm, "pnp": pnp, "oamp": oamp}
    if name not in solvers:
        raise InputError(f"method must be one of {', '.join(METHODS)}; got {name!r}.")
    return solvers[name]


def needs_prior(name: str) -> bool:
    """Whether the solver of that name evaluates a prior."""
    return name in ("ddnm", "pnp", "oamp")

"""The book's stepped diagrams: each function returns frames for :func:`idm_lib.notebook.stepped`.

What they show is taken from the objects that they are given, so a drawing cannot drift away from the code.
"""

from idm_lib.notebook.diagrams.link import coupling
from idm_lib.notebook.diagrams.passes import passes
from idm_lib.notebook.diagrams.reversible_sampler import reversible_sampler
from idm_lib.notebook.diagrams.sampler import sampler
from idm_lib.notebook.diagrams.two_levels import two_levels

__all__ = ["coupling", "passes", "reversible_sampler", "sampler", "two_levels"]

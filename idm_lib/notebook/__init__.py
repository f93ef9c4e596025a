"""What a chapter needs from the library besides the mathematics.

A chapter imports this module as ``nb``: it chooses the tier, draws figures that are legible in light and
dark pages, makes sliders that need no kernel, reads recorded results and checks the reader's exercises.
"""

from idm_lib.notebook import diagrams
from idm_lib.notebook.exercise import check
from idm_lib.notebook.figures import figure, plots, say, table
from idm_lib.notebook.images import show
from idm_lib.notebook.photos import PHOTOS, photo
from idm_lib.notebook.preflight import Machine, preflight
from idm_lib.notebook.records import recorded
from idm_lib.notebook.sliders import compare, slider
from idm_lib.notebook.steps import stepped
from idm_lib.notebook.style import COLORS
from idm_lib.notebook.tier import Tier, setup

__all__ = [
    "COLORS",
    "PHOTOS",
    "Machine",
    "Tier",
    "check",
    "compare",
    "diagrams",
    "figure",
    "photo",
    "plots",
    "preflight",
    "recorded",
    "say",
    "setup",
    "show",
    "slider",
    "stepped",
    "table",
]

"""Choose how much of a chapter this machine can run, and say why."""

import os
import random
from dataclasses import dataclass

from idm_lib.errors import InputError

FULL_TIER_GIB = 14.0  # what a free Colab GPU offers, and what the full-scale chapters are planned for


@dataclass(frozen=True)
class Tier:
    """What was chosen: ``tiny`` runs anywhere in minutes, ``full`` needs a CUDA device."""

    name: str
    device: "torch.device"  # noqa: F821 -- torch is imported only when a tier is chosen
    memory_gib: float | None
    why: str

    @property
    def full(self) -> bool:
        """Whether the full-scale cells of a chapter should run."""
        return self.name == "full"

    def __str__(self) -> str:
        place = {"cpu": "the CPU", "cuda": "the GPU", "mps": "the GPU"}.get(self.device.type, str(self.device))
        memory = "" if self.memory_gib is None else f", {self.memory_gib:.1f} GiB of memory"
        return f"Tier {self.name}: running on {place}{memory}. Why: {self.why}."


def _host_memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, OSError, ValueError):  # not every system answers
        return None


def choose_tier(asked: str | None = None) -> Tier:
    """Return the tier for this machine.

    Args:
        asked: "tiny", "full" or None for whatever fits.

    Raises:
        InputError: If ``asked`` is no tier. Asking for more than the machine has is not an error: a chapter
            must run everywhere, so the choice falls back to ``tiny`` and says so.
    """
    import torch

    if asked not in (None, "", "tiny", "full"):
        raise InputError(f"expected IDM_TIER to be 'tiny' or 'full', got {asked!r}; unset it to let the book choose")
    if not torch.cuda.is_available():
        why = "no CUDA device was found"
        if asked == "full":
            why += ", so the full tier that IDM_TIER asks for cannot run"
        return Tier("tiny", torch.device("cpu"), _host_memory_gib(), why)
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    if asked == "tiny":
        # The committed outputs are made on the CPU, so that they are the same everywhere.
        return Tier("tiny", torch.device("cpu"), _host_memory_gib(), "IDM_TIER asks for it")
    name = torch.cuda.get_device_name(0)
    if gib < FULL_TIER_GIB:
        why = f"{name} has less than the {FULL_TIER_GIB:.0f} GiB that the full tier is planned for"
        return Tier("tiny", torch.device("cuda"), gib, why)
    return Tier("full", torch.device("cuda"), gib, "IDM_TIER asks for it" if asked else f"{name} has room for it")


def setup(seed: int = 0) -> Tier:
    """Prepare a chapter: seed every generator, set the figure style, choose the tier and print it.

    Args:
        seed: Seed of torch, numpy and random.

    Returns:
        The tier; ``tier.device`` is where to compute and ``tier.full`` whether to run the full-scale cells.
    """
    import numpy as np
    import torch

    from idm_lib.notebook.style import apply_style

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # Small operations on many threads wait for each other more than they compute.
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), 8))
    apply_style()
    tier = choose_tier(os.environ.get("IDM_TIER"))
    print(f"{tier} Seed {seed}.")
    return tier

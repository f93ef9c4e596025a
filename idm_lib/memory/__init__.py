"""Memory as a choice and as a number: policies, and a meter that counts exactly what they cost."""

from idm_lib.memory.meter import Counts, Meter, measure
from idm_lib.memory.policy import MemoryPolicy

__all__ = ["Counts", "MemoryPolicy", "Meter", "measure"]

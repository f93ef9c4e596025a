"""Memory as a choice and as a number: policies, a meter that counts what they cost, a planner that says it before."""

from idm_lib.memory.meter import Counts, Meter, measure
from idm_lib.memory.planner import Problem, StepPlan, fastest_that_fits, plan
from idm_lib.memory.policy import MemoryPolicy

__all__ = ["Counts", "MemoryPolicy", "Meter", "Problem", "StepPlan", "fastest_that_fits", "measure", "plan"]

"""What a training run finds on this machine: the device, its free memory, and the precision that suits it."""

import os
from dataclasses import dataclass

from idm_lib.errors import InputError

BF16_CAPABILITY = (8, 0)  # of CUDA: the first generation that multiplies bfloat16 in hardware
FP16_CAPABILITY = (7, 0)  # and float16


@dataclass(frozen=True)
class Machine:
    """Where a run will be.

    Attributes:
        name: of the device.
        kind: ``cuda`` or ``cpu``.
        free_gib, total_gib: of its memory; 0 where the system does not tell.
        precision: as in a training configuration: ``bf16``, ``fp16`` or ``fp32``.
        why: of the precision.
    """

    name: str
    kind: str
    free_gib: float
    total_gib: float
    precision: str
    why: str

    @property
    def planned(self) -> str:
        """The planner's word for the precision: ``amp`` for either half."""
        return "fp32" if self.precision == "fp32" else "amp"

    def __str__(self) -> str:
        memory = f"{self.free_gib:.1f} of {self.total_gib:.1f} GiB free" if self.total_gib else "memory unknown"
        return f"{self.name}: {memory}. Precision {self.precision}, because {self.why}."


def preflight() -> Machine:
    """Look at the machine and print what was found.

    Returns:
        What was found; the GPU if there is one.
    """
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        precision, why = precision_for(torch.cuda.get_device_capability(0))
        found = Machine(torch.cuda.get_device_name(0), "cuda", free / 2**30, total / 2**30, precision, why)
    else:
        found = Machine("the CPU", "cpu", _host("SC_AVPHYS_PAGES"), _host("SC_PHYS_PAGES"), *precision_for(None))
    print(found)
    return found


def precision_for(capability: tuple[int, int] | None) -> tuple[str, str]:
    """Return the precision for training on a GPU of that CUDA capability, and why; None stands for the CPU.

    Raises:
        InputError: not a pair of numbers.
    """
    if capability is None:
        return "fp32", "half precision is a matter of GPUs, and a small model has no need of it"
    if len(capability) != 2:
        raise InputError(f"expected a CUDA capability of two numbers, such as (7, 5), got {capability!r}.")
    spoken = f"{capability[0]}.{capability[1]}"
    if tuple(capability) >= BF16_CAPABILITY:
        return "bf16", f"a card of capability {spoken} multiplies bfloat16, whose range needs no loss scale"
    if tuple(capability) >= FP16_CAPABILITY:
        return "fp16", f"a card of capability {spoken} multiplies float16 but not bfloat16; the loss is scaled"
    return "fp32", f"a card of capability {spoken} is no faster in half precision"


def _host(name: str) -> float:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, OSError, ValueError):  # not every system answers
        return 0.0

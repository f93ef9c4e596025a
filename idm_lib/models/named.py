"""Named configurations: the numbers of the models that the book speaks of, without their weights."""

from typing import Any

from idm_lib.errors import InputError

#: ``sd15``: the paper's model on Stable Diffusion v1.5, which is what the class's own defaults are.
#: ``tiny``: the shipped prior's network in a chain of six steps that follow state evolution.
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {},
    "tiny": {
        "steps": 6,
        "schedule": "state-evolution",
        "start": "wavelets",
        "block_channels": (32, 64, 96),
        "attention": (False, False, False),
        "injectors": (True, False, False),
        "joined_injectors": True,
        "norm_groups": 8,
        "bottleneck_repeat": 1,
        "noise_channels": 64,
        "one_pair": False,
        "v_steps": 0.05,
        "v_range": (0.05, 0.9),
    },
}


def named_config(name: str) -> dict[str, Any]:
    """Return a copy of the numbers of that name, as keyword arguments of the model's class.

    Raises:
        InputError: there is none.
    """
    if name not in CONFIGS:
        raise InputError(f"expected a configuration out of {', '.join(CONFIGS)}, got {name!r}.")
    return dict(CONFIGS[name])

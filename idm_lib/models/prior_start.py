"""From a prior to the chain: the same network, told the same noise levels, with injectors that change nothing yet."""

from typing import Any, TypeVar

from torch import nn

from idm_lib.errors import InputError
from idm_lib.models.denoiser import Denoiser

V_STEPS = 0.1  # the share of a step's input pair that wiring mixes in: small, as the prior was trained without it
_NETWORK = ("layers_per_block", "norm_groups", "noise_channels", "v")
_LEVELS = ("sigma_min", "sigma_max", "image_mean", "image_std")
Model = TypeVar("Model", bound=nn.Module)


def start_from_prior(kind: type[Model], prior: Denoiser, steps: int, **config: Any) -> Model:
    """Return an :class:`~idm_lib.models.InvertibleDiffusion` that holds the prior's weights.

    Args:
        kind: the class to make.
        prior: a trained denoiser.
        steps: T.
        config: other numbers than the prior's; injectors are joined to the bodies before them, and off unless asked
            for, so that the network computes what the prior computes.

    Raises:
        InputError: numbers that the prior's weights do not fit.
    """
    numbers = {name: prior.config[name] for name in (*_NETWORK, *_LEVELS)}
    levels = len(prior.config.block_channels)
    model = kind(
        **numbers
        | {
            "steps": steps,
            "schedule": "state-evolution",
            "block_channels": tuple(prior.config.block_channels),
            "attention": (False,) * levels,
            "injectors": (False,) * levels,
            "joined_injectors": True,
            "wired_blocks": prior.config.wired,
            "bottleneck_repeat": 1,
            "one_pair": False,
            "v_steps": V_STEPS,
        }
        | config
    )
    state = model.unet.state_dict()
    for name, value in prior.unet.state_dict().items():
        if name not in state or state[name].shape != value.shape:
            raise InputError(f"the prior's weights do not fit at {name!r}; leave its numbers as they are.")
        state[name] = value
    new = [name for name in state if name not in prior.unet.state_dict() and ".injectors." not in name]
    if new:
        raise InputError(f"the prior has no weights for {new[0]!r}; leave its numbers as they are.")
    model.unet.load_state_dict(state)
    return model

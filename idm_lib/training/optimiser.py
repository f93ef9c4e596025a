"""The optimiser and the learning rate of every step."""

import math

import torch
from torch import nn

from idm_lib.training.config import OptimiserConfig

LAST = 0.01  # of the highest rate, where a cosine or a line ends
FIFTHS = 5  # stretches of a run that halves its rate: the paper does so at epochs 10, 20, 30 and 40 of 50


def make_optimiser(model: nn.Module, config: OptimiserConfig, fused: bool = False) -> torch.optim.Optimizer:
    """Adam, or AdamW with its weight decay, over the model's parameters.

    With a ``schedule_lr``, a chain's schedule and wiring of steps are a group of their own: every group has the key
    ``share``, its rate as a multiple of ``lr``.

    Args:
        model: whose parameters.
        config: rules.
        fused: whether one kernel updates everything: for a GPU, which otherwise waits for thousands of small ones.
    """
    rule = {"lr": config.lr, "fused": fused or None}  # None: torch's own choice
    named = list(model.named_parameters())
    few = [p for name, p in named if name in ("alpha", "weights") or name.startswith("chain.")]
    if not (config.schedule_lr and few):
        groups = [{"params": [p for _, p in named], "share": 1.0}]
    else:
        apart = {id(p) for p in few}
        groups = [
            {"params": [p for _, p in named if id(p) not in apart], "share": 1.0},
            {"params": few, "share": config.schedule_lr / config.lr},
        ]
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, **rule)
    return torch.optim.Adam(groups, **rule)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up to ``lr``, then what ``decay`` says: a cosine or a line to a hundredth, no change, or halves.

    Args:
        step: number of the step, from 0.
        steps: of the whole run.
        config: rules.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.decay == "halving":
        return config.lr * 0.5 ** min(FIFTHS - 1, FIFTHS * (step - config.warmup) // max(1, steps - config.warmup))
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    left = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}[config.decay]
    return config.lr * (LAST + (1 - LAST) * left)

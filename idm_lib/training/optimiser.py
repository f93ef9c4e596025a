"""The optimiser and the learning rate of every step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from idm_lib.training.config import OptimiserConfig

LAST = 0.01  # of the highest rate, where a decay ends


def make_optimiser(parameters: Iterable[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """Adam, or AdamW with its weight decay, over the parameters."""
    if config.kind == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.Adam(parameters, lr=config.lr)


def learning_rate(step: int, steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up to ``lr``, then what ``decay`` says: a cosine or a line to a hundredth of it, or no change.

    Args:
        step: number of the step, from 0.
        steps: of the whole run.
        config: rules.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    left = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}[config.decay]
    return config.lr * (LAST + (1 - LAST) * left)

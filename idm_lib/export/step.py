"""What the exported graphs compute: one iteration of the start, and one step of the chain, with its link."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from idm_lib.diffusion.range_null import range_null_step
from idm_lib.diffusion.wavelet_start import wavelet_iteration
from idm_lib.errors import InputError
from idm_lib.export.operator import MaskedBlocks
from idm_lib.models import InvertibleDiffusion
from idm_lib.models.runs import BlockMemory, WiredRun
from idm_lib.models.steps import StateEvolutionStep


@dataclass(frozen=True)
class Program:
    """A function of tensors, and what it is called with.

    Args:
        function: called with the inputs, then the weights, all by position; returns a tuple of tensors.
        inputs: by name, examples of what changes from call to call.
        weights: by name, what does not.
        outputs: names of what it returns.
    """

    function: Callable[..., tuple[Tensor, ...]]
    inputs: dict[str, Tensor]
    weights: dict[str, Tensor]
    outputs: Sequence[str]


def example(arrays: dict[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
    """The inputs that both graphs begin with, as they are before anything is measured."""
    blocks = image_size[0] * image_size[1] // arrays["phi"].shape[0]
    empty = torch.zeros(1, blocks * arrays["phi"].shape[1])  # (1, blocks·Q)
    return {"y": empty, "mask": torch.ones_like(empty), **arrays}


def start_program(model: InvertibleDiffusion, arrays: dict[str, Tensor], image_size: tuple[int, int]) -> Program:
    """One iteration of :func:`~idm_lib.diffusion.wavelet_start.wavelet_start`: ``x`` → ``x_next``, (1, 1, H, W)."""

    def function(
        x: Tensor, y: Tensor, mask: Tensor, phi: Tensor, order: Tensor, inverse: Tensor
    ) -> tuple[Tensor, ...]:
        op = MaskedBlocks(phi, order, inverse, mask, image_size)
        return (wavelet_iteration(x, y * op.scale, op, op.true_ratio),)

    grey = torch.full((1, 1, *image_size), float(model.config.image_mean))
    return Program(function, {"x": grey, **example(arrays, image_size)}, {}, ["x_next"])


def step_program(model: InvertibleDiffusion, arrays: dict[str, Tensor], image_size: tuple[int, int]) -> Program:
    """One wired step: the pair ``x1``, ``x2`` → the next pair, and the image that the chain would end with here.

    The U-Net's weights are shared by all steps. What a step has of its own (k, ℓ, δ, w, its v and its injectors) is
    stacked, and chosen by the input ``step``, T − 1 … 0 in the order of the chain. So one graph serves all steps.

    Raises:
        InputError: a model of another kind than the shipped ``tiny``.
    """
    config, run = model.config, model.chain
    if config.schedule != "state-evolution" or config.start != "wavelets" or not isinstance(run, WiredRun):
        raise InputError(
            "only a model with wired steps, the state-evolution schedule and a wavelet start can be exported; "
            f"got schedule {config.schedule!r} and start {config.start!r}."
        )
    step = StateEvolutionStep(
        model.unet,
        0,
        BlockMemory(),
        config.image_mean,
        config.image_std,
        (config.sigma_min, config.sigma_max),
        take_out=True,
    )
    shared, own = split_weights(step, config.steps)
    weights = model.weights.detach().clone()  # (T, 4)
    weights[: 1 if config.divergence else None, 2] = 0  # the last step takes D(r) as it is, which is δ = 0
    v = torch.stack([value.detach().clamp(*run.v_range) for value in run.v]).flip(0)  # (T, 1), row t − 1 is step t's
    u = 1 - v if run.u is None else torch.stack([value.detach() for value in run.u]).flip(0)  # (T, 1)
    names, own_names = list(shared), list(own)

    def function(
        x1: Tensor,
        x2: Tensor,
        step_number: Tensor,
        y: Tensor,
        mask: Tensor,
        phi: Tensor,
        order: Tensor,
        inverse: Tensor,
        weights: Tensor,
        u: Tensor,
        v: Tensor,
        merge: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        def chosen(stack: Tensor) -> Tensor:
            return stack.index_select(0, step_number)[0]

        parameters = dict(zip(names, tensors, strict=False))
        parameters |= {name: chosen(stack) for name, stack in zip(own_names, tensors[len(names) :], strict=True)}
        op = MaskedBlocks(phi, order, inverse, mask, image_size)
        y = y * op.scale
        f = functional_call(step, parameters, (x1, y, op, op.A_adjoint(y), chosen(weights)))
        x1, x2 = chosen(u) * f + chosen(v) * x2, x1
        return x1, x2, range_null_step(x1 + merge * x2, y, op)

    grey = torch.full((1, 1, *image_size), float(config.image_mean))
    inputs = {"x1": grey, "x2": grey.clone(), "step": torch.zeros(1, dtype=torch.int32)}
    fixed = {"weights": weights, "u": u, "v": v, "merge": run.m.detach()}
    return Program(
        function, inputs | example(arrays, image_size), fixed | shared | own, ["x1_next", "x2_next", "image"]
    )


def split_weights(step: nn.Module, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights that all steps share, and those of the injectors, stacked over the steps, under step 0's names."""
    shared: dict[str, Tensor] = {}
    own: dict[str, list[Tensor]] = {}
    for name, value in step.named_parameters():
        path = name.split(".")
        if "injectors" not in path:
            shared[name] = value.detach()
            continue
        place = path.index("injectors") + 2  # …injectors.LAYER.STEP.…
        path[place] = "0"
        own.setdefault(".".join(path), []).append(value.detach())
    return shared, {name: torch.stack(values) for name, values in own.items() if len(values) == steps}

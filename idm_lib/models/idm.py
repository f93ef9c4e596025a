"""The invertible diffusion model: T sampling steps as one reversible network from measurements to image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from idm_lib.diffusion.range_null import trusted_step
from idm_lib.diffusion.wavelet_start import shrinkage_start, wavelet_start
from idm_lib.errors import InputError
from idm_lib.memory import MemoryPolicy
from idm_lib.models.config import UNetConfig, check_denoising, check_record, check_wiring
from idm_lib.models.denoiser import Denoiser
from idm_lib.models.level_step import LevelStep, first_levels
from idm_lib.models.named import named_config
from idm_lib.models.prior_start import start_from_prior
from idm_lib.models.published import load_published
from idm_lib.models.publishing import save_folder, upload
from idm_lib.models.runs import BlockMemory, PlainRun, WiredRun
from idm_lib.models.schedules import check_schedule
from idm_lib.models.stable_diffusion import load_stable_diffusion
from idm_lib.models.steps import PaperStep, StateEvolutionStep, alpha_bars, first_weights, ratio_of
from idm_lib.models.storage import load_folder, resolve
from idm_lib.models.unet import ReversibleUNet
from idm_lib.operators.base import check_measurements
from idm_lib.reversible import DriftLog


class InvertibleDiffusion(ModelMixin, ConfigMixin):
    """x̂ = model(y, op): from measurements to image in T steps, trained as one network (arXiv 2403.17006).

    Both levels are reversible: the chain of steps, whose state is a pair of images, and the runs of blocks inside the
    U-Net that every step shares. Only the injectors have weights of each step's own.

    Args:
        steps: T.
        schedule: ``paper`` (learnable α, no noise level), ``state-evolution`` (the U-Net is told its noise level, as
            the residual tells it where the operator's rows look at random) or ``levels`` (it is told a learned one,
            for any operator).
        start: where the chain begins: ``grey``, or an image from ``wavelets``
            (:mod:`~idm_lib.diffusion.wavelet_start`), which spares calls of the network. The paper's chain begins at
            √ᾱ_T·A⁺y.
        ladder: of ``levels``: the noise levels of the first and the last step before training.
        wired_steps, wired_blocks: reversible, or plain, at either level.
        v_steps: first value of the steps' wiring scalars, if not v.
        free_steps: whether the steps' wiring has a learnable u in the place of 1 − v, as the paper's equation has it.
        divergence: of ``state-evolution``: whether every step but the last takes out of the denoiser's answer what it
            merely copied, as OAMP does.
        block_channels, layers_per_block, attention, injectors, attention_heads, norm_groups: as in
            :class:`~idm_lib.models.config.UNetConfig`.
        bottleneck_repeat, noise_channels, v, v_range, one_pair, joined_injectors: as there.
        image_mean, image_std, sigma_min, sigma_max: of the denoiser, unless the schedule is the paper's.
        ratios: lowest and highest γ trained for, for the record.
        operator: what it was trained on, for the record, as ``{"seed": 0, "block_size": 32}`` (of Φ).

    The defaults are the paper's model on Stable Diffusion v1.5.
    """

    @register_to_config
    def __init__(
        self,
        steps: int = 3,
        schedule: str = "paper",
        wired_steps: bool = True,
        wired_blocks: bool = True,
        block_channels: tuple[int, ...] = (320, 640),
        layers_per_block: int = 2,
        attention: tuple[bool, ...] = (True, True),
        injectors: tuple[bool, ...] | None = (True, True),
        attention_heads: int = 8,
        norm_groups: int = 32,
        bottleneck_repeat: int = 2,
        noise_channels: int = 0,
        v: float = 0.5,
        v_range: tuple[float, float] = (0.1, 0.9),
        one_pair: bool = True,
        joined_injectors: bool = False,
        v_steps: float | None = None,
        free_steps: bool = False,
        divergence: bool = True,
        start: str = "grey",
        ladder: tuple[float, float] = (0.2, 0.02),
        image_mean: float = 0.5,
        image_std: float = 0.25,
        sigma_min: float = 0.005,
        sigma_max: float = 5.0,
        ratios: tuple[float, float] = (0.01, 0.5),
        operator: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_denoising(steps, image_mean, image_std, sigma_min, sigma_max)
        check_schedule(schedule, start, noise_channels, ladder, divergence)
        check_record(tuple(ratios), operator)
        self.unet = ReversibleUNet(
            UNetConfig(
                block_channels=tuple(block_channels),
                layers_per_block=layers_per_block,
                attention=tuple(attention),
                injectors=None if injectors is None else tuple(injectors),
                steps=steps,
                attention_heads=attention_heads,
                norm_groups=norm_groups,
                bottleneck_repeat=bottleneck_repeat,
                noise_channels=noise_channels,
                wired=wired_blocks,
                v=v,
                v_range=tuple(v_range),
                one_pair=one_pair,
                joined_injectors=joined_injectors,
            )
        )
        v_steps = v if v_steps is None else v_steps
        check_wiring(v_steps, tuple(v_range), made_up_for=wired_steps and schedule != "paper")
        if free_steps and not wired_steps:
            raise InputError("free_steps frees a scalar of wired steps; leave it out, or wire the steps.")
        self.chain = (
            WiredRun(steps, v_steps, tuple(v_range), name="steps", free=free_steps) if wired_steps else PlainRun()
        )
        if schedule == "paper":
            self.alpha = nn.Parameter(torch.full((steps,), 0.5))  # α_1 … α_T
        else:
            mixed_in = v_steps if wired_steps else 0.0
            rows = (
                first_levels(tuple(ladder), steps, mixed_in)
                if schedule == "levels"
                else first_weights(steps, mixed_in)
            )
            self.weights = nn.Parameter(rows)  # (T, 3) or (T, 4)
        runs = [module for module in self.modules() if isinstance(module, WiredRun)]
        for run in runs:
            run.read_together(runs)

    def forward(
        self, y: Tensor, op: Any, memory: MemoryPolicy | str | None = None, drift: DriftLog | None = None
    ) -> Tensor:
        """Reconstruct.

        Args:
            y: measurements, (B, M).
            op: the operator that took them, with ``A``, ``A_adjoint`` and ``A_dagger``.
            memory: what a backward pass stores, a policy or its name; default: :meth:`MemoryPolicy.default`.
            drift: notes how exactly the backward pass rebuilds what it inverts, by link.

        Returns:
            x̂, (B, 1, H, W), not clamped. Differentiable in the parameters and in y.

        Raises:
            InputError: y is not (B, M), holds NaN (not looked for in training on a GPU), or does not fit op; or op is
                no operator, or memory no policy.
        """
        # In training a GPU is not waited for: what is no number shows in the loss, which the loop looks at anyway.
        check_measurements(y, values=not self.training or y.device.type == "cpu")
        if not all(hasattr(op, name) for name in ("A", "A_adjoint", "A_dagger")):
            raise InputError(
                f"op must be the operator that took y, with A, A_adjoint and A_dagger; got {type(op).__name__}."
            )
        policy = MemoryPolicy.of(memory)
        back_projection = op.A_adjoint(y).to(y.dtype)  # (B, 1, H, W)
        blocks = BlockMemory(policy.blocks, policy.keep_attention, policy.streams, drift, policy.slices)
        start, bodies, extras = self._steps(y, op, back_projection, blocks)
        # Two grey images: precision costs nothing. Attention kept here too is computed once in all.
        steps = BlockMemory(policy.steps, policy.keep_attention, torch.float64, drift)
        out = self.chain(start, bodies, extras, steps, stored=policy.kept_steps(self.config.steps))[0]
        return self._end(out, y, op)

    def _end(self, out: Tensor, y: Tensor, op: Any) -> Tensor:
        """The merged stream, (B, 1, H, W), and, where the schedule says so, its projection onto the measurements."""
        return out if self.config.schedule == "paper" else trusted_step(out, y, op).to(out.dtype)

    def _steps(
        self, y: Tensor, op: Any, back_projection: Tensor, blocks: BlockMemory
    ) -> tuple[Tensor, list[nn.Module], list[tuple[Any, ...]]]:
        """The first state, and the steps t = T … 1 with their arguments."""
        config, countdown = self.config, range(self.config.steps, 0, -1)
        if config.schedule == "paper":
            bars = alpha_bars(self.alpha)  # (T + 1,)
            bodies: list[nn.Module] = [PaperStep(self.unet, t - 1, blocks) for t in countdown]
            extras = [(y, op, back_projection, bars[t], bars[t - 1]) for t in countdown]
            smallest = back_projection if getattr(op, "orthonormal", False) else op.A_dagger(y).to(y.dtype)  # A⁺y
            return bars[-1].sqrt() * smallest, bodies, extras
        numbers = (config.image_mean, config.image_std, (config.sigma_min, config.sigma_max))
        extras = [(y, op, back_projection, self.weights[t - 1]) for t in countdown]
        grey = torch.full_like(back_projection, config.image_mean)
        if config.schedule == "levels":
            bodies = [LevelStep(self.unet, t - 1, blocks, *numbers) for t in countdown]
            return grey if config.start == "grey" else shrinkage_start(y, op, grey), bodies, extras
        bodies = [
            StateEvolutionStep(self.unet, t - 1, blocks, *numbers, take_out=config.divergence and t > 1)
            for t in countdown
        ]
        first = grey if config.start == "grey" else wavelet_start(y, op, grey, ratio_of(op, y, grey))
        return first, bodies, extras

    @classmethod
    def named(cls, name: str, **changes: Any) -> Self:
        """A new model of a named configuration, ``tiny`` or ``sd15``, with some numbers changed.

        An ablation is a change: ``named("sd15", wired_blocks=False)``, ``named("tiny", steps=4, injectors=None)``.

        Raises:
            InputError: an unknown name, or numbers that do not fit.
        """
        return cls(**named_config(name) | changes)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load a model: a shipped name, a local folder, or a hub id.

        Raises:
            InputError: nothing of that name, or files that are missing, broken or of another model.
        """
        return load_folder(super().from_pretrained, resolve(name), cls.__name__, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write weights (safetensors), ``config.json`` and, where there is none yet, a model card.

        Args:
            save_directory: a folder, made if need be.
            kwargs: diffusers' own, as ``variant`` or ``max_shard_size``.

        Raises:
            InputError: not a folder that can be written to, or pickled weights asked for.
        """
        save_folder(super().save_pretrained, self, save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what :meth:`save_pretrained` writes; see :func:`~idm_lib.models.publishing.upload`."""
        return upload(self, repo_id, **options)

    @classmethod
    def from_stable_diffusion(cls, source: str | Path, steps: int = 3, **config: Any) -> Self:
        """Start from Stable Diffusion's U-Net: what the paper drops is dropped, what it adds is new.

        Args:
            source: a diffusers folder (a pipeline's, or its ``unet/``), or a hub id.
            steps: T.
            config: see :func:`~idm_lib.models.stable_diffusion.load_stable_diffusion`, which also gives a report of
                what was used, dropped and new.

        Raises:
            InputError: no such U-Net, one of another make, or numbers that contradict it.
        """
        return load_stable_diffusion(cls, source, steps, **config)[0]

    @classmethod
    def from_prior(cls, prior: Denoiser, steps: int = 8, **config: Any) -> Self:
        """Start from a prior: its network, unchanged, inside a chain whose noise levels follow state evolution.

        Args:
            prior: a trained denoiser.
            steps: T.
            config: other numbers than the prior's; injectors are joined, and off unless asked for.

        Raises:
            InputError: numbers that the prior's weights do not fit.
        """
        return start_from_prior(cls, prior, steps, **config)

    @classmethod
    def from_published(cls, source: Mapping[str, Tensor] | str | Path, steps: int = 3) -> Self:
        """Load a checkpoint in the layout that the paper's authors publish; its dtype is kept.

        Args:
            source: a state dict, or the path of one (read without running any code in it).
            steps: T of the model that it was made with.

        Raises:
            InputError: not such a checkpoint, of another T, or with missing, unknown or contradictory tensors.
        """
        return load_published(cls, source, steps)

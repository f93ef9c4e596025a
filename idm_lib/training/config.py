"""What a training run is: validated dataclasses, read from YAML, saved whole beside the run's weights."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from idm_lib.errors import InputError
from idm_lib.training.config_files import build, read_tree

DECAYS = ("cosine", "linear", "constant", "halving")


@dataclass(frozen=True)
class DataConfig:
    """Images to train on.

    Args:
        folder: a folder of images of any kind, of which the luminance is used, or of medical scans, with those in
            the folders below: see :mod:`idm_lib.medical`; or ``div2k``, ``flowers`` or ``synthetic``: see
            :mod:`idm_lib.training.named_data`.
        validation: how many of them, evenly spread over the sorted names, are held out; of scans, how many patients.
        crop: side of a training crop, pixels.
        batch: crops a step.
        phantoms: share of the crops that are made-up phantoms (:mod:`idm_lib.training.phantoms`) and no photographs.
    """

    folder: str = "data/train"
    validation: int = 12
    crop: int = 64
    batch: int = 8
    phantoms: float = 0.0


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights follow gradients.

    Args:
        kind: ``adam`` or ``adamw``.
        lr: highest learning rate.
        decay: what follows a linear warm-up: ``cosine`` to a hundredth of the rate, ``linear`` to a hundredth,
            ``constant``, or ``halving``, by half after each fifth of the run, as in the paper.
        warmup: steps until the highest rate is reached.
        weight_decay: of AdamW; Adam has none.
        clip: largest norm of the gradient; 0 for no clipping.
        ema: decay of the averaged weights, which are what is validated and kept.
        schedule_lr: highest learning rate of a chain's few numbers, its schedule and its steps' wiring; 0 for ``lr``.
            A ladder of noise levels has a way to go where the network has none.
        hold_schedule: whether the schedule's numbers (k, ℓ, δ and w, or the paper's α) stay as they begin.
        anneal_v: where the steps' wiring scalars end, which begin at the model's ``v_steps``: they are led there
            evenly over the first half of the run, and then held (Dr²Net, Zhao et al., CVPR 2024, trains so). 0 for
            scalars that are learned.
    """

    kind: str = "adam"
    lr: float = 1e-3
    decay: str = "cosine"
    warmup: int = 500
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    schedule_lr: float = 0.0
    hold_schedule: bool = False
    anneal_v: float = 0.0


@dataclass(frozen=True)
class MeasureConfig:
    """The measurements that a chain is trained on.

    Args:
        low, high: range of the ratio γ, drawn anew for every batch.
        draw: ``log``, ln γ uniform, or ``uniform``, γ itself: more of the high ratios, where the prior alone is best
            and fine-tuning has most to lose.
        block_size: side of a block; its square is N.
        seed: of the matrix Φ; permutations are drawn anew for every batch.
        operator: another operator than BlockCS, as ``{operator: MRI, ratio: 0.25}``, without its image size. Where it
            has a ``ratio`` that is not given, one is drawn; where it has a ``seed``, one is drawn; and of a number
            that is given as a list, one of them. See :mod:`idm_lib.training.operators`.
    """

    low: float = 0.01
    high: float = 0.5
    draw: str = "log"
    block_size: int = 32
    seed: int = 0
    operator: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LevelConfig:
    """The noise levels σ that a prior is trained on; ln σ is uniform.

    Args:
        low, high: a range of σ that deserves more of the training than the rest; none if both are 0.
        share: the part of the crops whose level is drawn from it; the others' from the prior's whole range.
    """

    low: float = 0.0
    high: float = 0.0
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or (self.share and not 0 < self.low < self.high < math.inf):
            raise InputError(
                f"levels needs share in [0, 1] and, if it is not 0, 0 < low < high; got low {self.low}, "
                f"high {self.high} and share {self.share}."
            )


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Args:
        task: what to train: ``prior`` (a :class:`~idm_lib.models.Denoiser`) or ``chain`` (an
            :class:`~idm_lib.models.InvertibleDiffusion`, end to end).
        name: of the run, and of the weights it makes.
        steps: optimiser steps in all.
        seed: of the first weights and of every batch.
        checkpoint_every, validate_every, log_every: in steps.
        accumulate: parts that a batch, or a process's share of it, is computed in, one after another: the same step
            for less memory.
        precision: of the network in training: ``fp32``, or ``bf16`` or ``fp16`` by autocast.
        export_dtype: precision of the weights that are kept, ``float32`` or ``float16``.
        data, optimiser: see there.
        model: keyword arguments of the model's class.
        start: the prior whose weights a prior goes on from, or what a chain begins with: a prior, a fine-tuned model,
            a Stable Diffusion or a published checkpoint, see :func:`~idm_lib.models.starts.start_chain`; none if
            empty.
        loss: of a chain's output: ``l1``, ``mse`` or ``log-mse``.
        memory: name of the :class:`~idm_lib.memory.MemoryPolicy` that a chain is trained with.
        measure: of a chain; see there.
        levels: of a prior; see there.
    """

    task: str = "prior"
    name: str = "run"
    steps: int = 1000
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 1000
    log_every: int = 50
    accumulate: int = 1
    precision: str = "fp32"
    export_dtype: str = "float32"
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    model: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    loss: str = "l1"
    memory: str = "default"
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    levels: LevelConfig = field(default_factory=LevelConfig)

    def __post_init__(self) -> None:
        if self.export_dtype not in ("float32", "float16"):
            raise InputError(f"export_dtype must be float32 or float16; got {self.export_dtype!r}.")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise InputError(f"precision must be fp32, bf16 or fp16; got {self.precision!r}.")
        whole = {"steps": self.steps, "data.batch": self.data.batch, "data.crop": self.data.crop}
        whole |= {
            name: getattr(self, name) for name in ("checkpoint_every", "validate_every", "log_every", "accumulate")
        }
        for name, value in whole.items():
            if value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must lie in 0 … 2**32 - 1; got {self.seed}.")
        if not 0 <= self.data.phantoms <= 1:
            raise InputError(f"data.phantoms must lie in [0, 1], a share of the crops; got {self.data.phantoms}.")
        if self.data.validation < 0:
            raise InputError(f"data.validation must be at least 0; got {self.data.validation}.")
        rules = self.optimiser
        if rules.kind not in ("adam", "adamw"):
            raise InputError(f"optimiser.kind must be adam or adamw; got {rules.kind!r}.")
        if rules.decay not in DECAYS:
            raise InputError(f"optimiser.decay must be one of {', '.join(DECAYS)}; got {rules.decay!r}.")
        if not 0 <= rules.weight_decay < math.inf or (rules.weight_decay and rules.kind == "adam"):
            raise InputError(
                f"optimiser.weight_decay must be at least 0, and 0 for adam; got {rules.weight_decay} "
                f"for {rules.kind}."
            )
        if not (0 < rules.lr < math.inf and rules.warmup >= 0 and 0 <= rules.clip < math.inf and 0 <= rules.ema < 1):
            raise InputError(
                f"optimiser needs lr > 0, warmup ≥ 0, clip ≥ 0 and ema in [0, 1); got {rules.lr}, {rules.warmup}, "
                f"{rules.clip} and {rules.ema}."
            )
        if not 0 <= rules.schedule_lr < math.inf:
            raise InputError(f"optimiser.schedule_lr must be at least 0; got {rules.schedule_lr}.")
        if not 0 <= rules.anneal_v < 1:
            raise InputError(f"optimiser.anneal_v must lie in [0, 1), and is 0 for none; got {rules.anneal_v}.")

    @classmethod
    def load(cls, source: str | Path, overrides: list[str] | None = None) -> Self:
        """Read a YAML file, or the configuration of that name which comes with the package.

        Args:
            source: a path, or a shipped name (``prior-tiny``).
            overrides: ``key=value`` or ``section.key=value``, values in YAML.

        Raises:
            InputError: no such file, not YAML, an unknown key or a value of the wrong type.
        """
        return build(cls, read_tree(source, overrides or []), str(source))

    def to_yaml(self) -> str:
        """The whole configuration, defaults included; :meth:`load` reads it back."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)

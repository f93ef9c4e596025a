"""What a linear measurement operator is: A, its adjoint, its pseudo-inverse, and what follows from them.

The method names are deepinv's, so that objects of either library can stand in for the other's.
"""

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError


class LinearOperator(ABC):
    """A linear map A from images (B, C, H, W) to measurements (B, M).

    A subclass writes ``A``, ``A_adjoint`` and ``A_dagger``; the projections, noise and checks come with it.
    The two projections split every image in two: ``x = A⁺A x + (I − A⁺A) x``, the part that the
    measurements see (range of A⁺) and the part that they do not (null space of A).

    Args:
        noise_std: standard deviation σ of the Gaussian noise that :meth:`measure` adds; 0 for none.
    """

    def __init__(self, noise_std: float = 0.0) -> None:
        if not (isinstance(noise_std, int | float) and np.isfinite(noise_std) and noise_std >= 0):
            raise InputError(f"noise_std must be a finite number of at least 0; got {noise_std!r}.")
        self.noise_std = float(noise_std)
        self._device = torch.device("cpu")

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """Measure: y = A x, (B, C, H, W) → (B, M), without noise."""

    @abstractmethod
    def A_adjoint(self, y: Tensor) -> Tensor:
        """Adjoint: Aᵀ y, (B, M) → (B, C, H, W), with ⟨A x, y⟩ = ⟨x, Aᵀ y⟩."""

    @abstractmethod
    def A_dagger(self, y: Tensor) -> Tensor:
        """Pseudo-inverse: A⁺ y, (B, M) → (B, C, H, W), the smallest image that explains y."""

    @property
    def device(self) -> torch.device:
        """Where the operator's own numbers are; inputs must be there too."""
        return self._device

    def to(self, device: torch.device | str) -> Self:
        """Move the operator's numbers to ``device`` (in place, as ``nn.Module.to`` does) and return it."""
        device = torch.device(device)
        self._device = torch.device("cpu") if device.type == "cpu" else device  # tensors never carry cpu:0
        return self

    def measure(self, x: Tensor, seed: int | None = None) -> Tensor:
        """y = A x + noise_std · n, with n standard Gaussian: what an instrument would give.

        Args:
            x: images (B, C, H, W).
            seed: of the noise, drawn on the CPU so that it is the same on every device; needed when
                ``noise_std > 0``.
        """
        y = self.A(x)
        if self.noise_std == 0:
            return y
        if seed is None:
            raise InputError(f"noise_std is {self.noise_std:g}, so measure() needs a seed; give seed=0, say.")
        noise = np.random.RandomState(seed).standard_normal(tuple(y.shape))
        return y + self.noise_std * torch.from_numpy(noise).to(y)

    def __call__(self, x: Tensor, seed: int | None = None) -> Tensor:
        """The same as :meth:`measure` (deepinv's convention)."""
        return self.measure(x, seed)

    @property
    def orthonormal(self) -> bool:
        """Whether A Aᵀ = I, so that A⁺ = Aᵀ; a subclass of which that holds says so."""
        return False

    def range_projection(self, x: Tensor) -> Tensor:
        """A⁺A x: the part of x that the measurements determine, (B, C, H, W)."""
        return self.A_dagger(self.A(x))

    def null_projection(self, x: Tensor) -> Tensor:
        """(I − A⁺A) x: the part of x that the measurements do not see, (B, C, H, W)."""
        return x - self.range_projection(x)

    def config(self) -> dict[str, Any]:
        """The few numbers from which the operator can be rebuilt exactly; JSON-ready."""
        raise InputError(f"{type(self).__name__} cannot be saved: it defines no config().")

    def arrays(self) -> dict[str, np.ndarray]:
        """What :meth:`config` is too small for: arrays that the operator was given, by their argument's name."""
        return {}


def check_tensor(x: Tensor, name: str, device: torch.device) -> None:
    """Refuse what no operator can use: not a tensor, not floating point, on another device, not finite.

    NaN and infinity are looked for only where the look is free of side effects: on the CPU, and not in a
    tensor that autograd tracks (that one comes out of a network, whose training loop has its own watch).
    """
    if not isinstance(x, Tensor):
        raise InputError(f"{name} must be a torch tensor; got {type(x).__name__}; use torch.as_tensor.")
    if not x.is_floating_point():
        raise InputError(f"{name} must be floating point; got {x.dtype}; use {name}.float() (images lie in [0, 1]).")
    if x.device.type != "meta" and x.device != _indexed(device, x):
        raise InputError(f"the operator is on {device} and {name} on {x.device}; move one with .to(...).")
    if has_values(x) and x.device.type == "cpu" and not x.requires_grad and not all_finite(x):
        bad = int((~torch.isfinite(x)).sum())
        raise InputError(
            f"{name} must be finite; {bad} of its {x.numel()} values are NaN or infinite; mend the data."
        )


def has_values(x: Tensor) -> bool:
    """Whether there are values to look at; meta, fake and functional tensors carry none."""
    return type(x) in (Tensor, torch.nn.Parameter) and not x.is_meta


def all_finite(x: Tensor) -> bool:
    """Whether no value is NaN or infinite: a finite sum says so, in a tenth of the time; any other is looked into."""
    return math.isfinite(float(x.detach().sum())) or bool(torch.isfinite(x).all())


def _indexed(device: torch.device, like: Tensor) -> torch.device:
    """``cuda`` means the current CUDA device: give it the index that tensors carry."""
    if device.index is None and device.type == like.device.type and device.type != "cpu":
        current = torch.cuda.current_device() if device.type == "cuda" else 0
        return torch.device(device.type, current)
    return device


def full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast off, for the device that x is on (meta tensors know no autocast)."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def compute_dtype(x: Tensor) -> torch.dtype:
    """The precision to measure in: the input's own, but never below float32.

    In half precision the residual y − A x of a good reconstruction would be all rounding error.
    """
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def check_measurements(y: Tensor, values: bool = True) -> Tensor:
    """Refuse measurements that no reconstruction can use, wherever they are; return them.

    Args:
        y: measurements.
        values: whether to look at the values, for which a GPU has to be waited for.

    Raises:
        InputError: not (B, M) floating point, or NaN or infinite values among them.
    """
    if not isinstance(y, Tensor) or y.dim() != 2 or not y.is_floating_point():
        got = f"{tuple(y.shape)}, {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise InputError(f"y must be a floating-point tensor of shape (B, M); got {got}; measure with op.A(x).")
    if values and has_values(y) and not all_finite(y):
        bad = int((~torch.isfinite(y)).sum())
        raise InputError(f"y must be finite; {bad} of its {y.numel()} measurements are NaN or infinite; mend them.")
    return y


def check_ratio(ratio: float) -> float:
    """Return γ as a float if it lies in (0, 1], else raise."""
    number = isinstance(ratio, int | float | np.floating) and not isinstance(ratio, bool)
    if not number or not 0 < ratio <= 1:
        raise InputError(f"ratio must lie in (0, 1], as 0.1 for a tenth of the numbers; got {ratio!r}.")
    return float(ratio)


def check_image_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) as two ints if both are whole numbers of at least 1, else raise."""
    try:
        height, width = image_size
        sides = (int(height), int(width))
        valid = sides == (height, width) and min(sides) >= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(f"image_size must be (height, width), whole numbers of at least 1; got {image_size!r}.")
    return sides


def check_whole(value: int, name: str, least: int) -> int:
    """Return ``value`` as an int if it is a whole number of at least ``least``, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    return int(value)


def rows(ratio: float, pixels: int) -> int:
    """⌈γn⌉, the number of measurements of n pixels; 1e-9 keeps 0.1 · 1000 from becoming 101."""
    return math.ceil(ratio * pixels - 1e-9) if pixels else 0

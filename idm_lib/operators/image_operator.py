"""What operators of one image size share: checks, precision, devices, and how they are saved."""

from abc import abstractmethod
from inspect import signature
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.operators.base import LinearOperator, check_image_size, check_tensor, compute_dtype, full_precision


class ImageOperator(LinearOperator):
    """A linear operator for images of one size, built from tables of numbers in float64.

    A subclass writes ``measurements``, :meth:`_measure`, :meth:`_adjoint` and, where A⁺ is not Aᵀ, :meth:`_dagger`;
    they get checked tensors in the precision to compute in. It keeps every argument of its constructor in an
    attribute of the same name, so that :meth:`config` can find them, and its tables in ``_tables``.

    Shapes: x (B, channels, H, W); y (B, M). float64 in gives float64 out; anything else is computed and returned
    in float32, under autocast too.
    """

    #: C of the images.
    channels: int = 1
    #: The constructor's arguments that are arrays, too large for :meth:`config`; see :meth:`arrays`.
    array_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, image_size: tuple[int, int], noise_std: float = 0.0) -> None:
        super().__init__(noise_std)
        self.image_size = check_image_size(image_size)
        self._tables: dict[str, Tensor] = {}  # float64, complex128 or int64, on the CPU
        self._ready: dict[tuple[str, torch.dtype], Tensor] = {}

    # -- what a subclass writes ----------------------------------------------------------------------------

    @property
    @abstractmethod
    def measurements(self) -> int:
        """M: how many real numbers the operator takes of one image."""

    @abstractmethod
    def _measure(self, x: Tensor) -> Tensor:
        """A x, (B, C, H, W) → (B, M)."""

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, (B, M) → (B, C, H, W)."""

    def _dagger(self, y: Tensor) -> Tensor:
        """A⁺ y, (B, M) → (B, C, H, W); Aᵀ y, unless the rows are not orthonormal."""
        return self._adjoint(y)

    # -- the public map ------------------------------------------------------------------------------------

    def A(self, x: Tensor) -> Tensor:
        """y = A x: (B, C, H, W) → (B, M).

        Raises:
            InputError: wrong shape or device; integer, NaN or infinite pixels.
        """
        check_tensor(x, "x", self.device)
        height, width = self.image_size
        if x.dim() != 4 or tuple(x.shape[1:]) != (self.channels, height, width):
            raise InputError(
                f"x must have shape (B, {self.channels}, {height}, {width}); got {tuple(x.shape)}; "
                "reshape it, or build the operator for this image size."
            )
        with full_precision(x):
            return self._measure(x.to(compute_dtype(x)))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y: (B, M) → (B, C, H, W).

        Raises:
            InputError: as :meth:`A`.
        """
        with full_precision(y):
            return self._adjoint(self._checked(y))

    def A_dagger(self, y: Tensor) -> Tensor:
        """A⁺ y: (B, M) → (B, C, H, W).

        Raises:
            InputError: as :meth:`A`; where A⁺ is found by conjugate gradients, also if they do not converge.
        """
        with full_precision(y):
            return self._dagger(self._checked(y))

    def _checked(self, y: Tensor) -> Tensor:
        check_tensor(y, "y", self.device)
        if y.dim() != 2 or y.shape[1] != self.measurements:
            raise InputError(
                f"y must have shape (B, {self.measurements}); got {tuple(y.shape)}; "
                "use the operator that measured it, with the same numbers."
            )
        return y.to(compute_dtype(y))

    # -- tables and devices --------------------------------------------------------------------------------

    def _table(self, name: str, like: Tensor) -> Tensor:
        """A table on the operator's device; real and complex numbers in the precision of ``like``."""
        table = self._tables[name]
        dtype = compute_dtype(like)
        if table.is_complex():
            dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        elif not table.is_floating_point():
            dtype = table.dtype  # positions
        if (name, dtype) not in self._ready:
            self._ready[name, dtype] = table.to(self._device, dtype)
        return self._ready[name, dtype]

    def to(self, device: torch.device | str) -> Self:
        """Move the operator's tables to ``device``, in place, and return the operator."""
        before = self._device
        super().to(device)
        if self._device != before:
            self._ready = {}
        return self

    # -- saving --------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The few numbers that rebuild this operator, JSON-ready, but for its :meth:`arrays`."""
        numbers = {name: value for name, value in self._arguments().items() if name not in self.array_arguments}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in numbers.items()}
        return {"operator": type(self).__name__} | plain

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that the operator was given, as a measured mask, by their argument's name."""
        given = {name: self._arguments()[name] for name in self.array_arguments}
        return {name: value for name, value in given.items() if value is not None}

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild an operator from what :meth:`config` gave (or its JSON), with its :meth:`arrays` beside it, if any.

        Raises:
            InputError: of another operator, with unknown or missing names, or numbers that make no operator.
        """
        fields = dict(config)
        if fields.pop("operator", cls.__name__) != cls.__name__:
            raise InputError(f"this is the configuration of a {config['operator']}; expected a {cls.__name__}.")
        parameters = signature(cls).parameters
        needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        if not set(needed) <= set(fields) <= set(parameters):
            raise InputError(
                f"a {cls.__name__} configuration needs {', '.join(needed)}, may have {', '.join(parameters)}, "
                f"and nothing unknown; got {sorted(config)}."
            )
        return cls(**fields)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value!r}" for name, value in self.config().items() if name != "operator")
        pixels = self.channels * self.image_size[0] * self.image_size[1]
        return f"{type(self).__name__}({numbers})  # {self.measurements} numbers of {pixels}"

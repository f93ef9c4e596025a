"""Another library's measurement as an operator of this one."""

import math
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.operators.base import check_whole
from idm_lib.operators.conjugate_gradients import cg_pseudo_inverse, check_cg
from idm_lib.operators.image_operator import ImageOperator


class Wrapped(ImageOperator):
    """Anything with ``A`` and ``A_adjoint``, as deepinv's linear physics, with y flattened to (B, M) reals.

    Its measurements may have any shape, and be complex: they are then taken apart into pairs of reals. It must be
    linear and draw no noise in ``A``; noise is this operator's own. Without ``A_dagger``, A⁺ is found by conjugate
    gradients. It cannot be saved: rebuild the physics, and wrap it again.

    Args:
        physics: the object.
        image_size, channels: of the images that it takes, (B, channels, H, W).
        noise_std: see :class:`~idm_lib.operators.LinearOperator`.
        dtype: what the physics computes in, if its own numbers allow no other; by default the input's.
        tolerance, max_iterations: of the conjugate gradients.
        device: where the physics is; by default where its first parameter or buffer is, or on the CPU if it has none.

    Raises:
        InputError: no such methods, or a measurement of an image that is no tensor with one row for each image.
    """

    def __init__(
        self,
        physics: Any,
        image_size: tuple[int, int],
        channels: int = 1,
        noise_std: float = 0.0,
        dtype: torch.dtype | None = None,
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(image_size, noise_std)
        missing = [name for name in ("A", "A_adjoint") if not callable(getattr(physics, name, None))]
        if missing:
            raise InputError(f"physics must have A and A_adjoint; a {type(physics).__name__} has no {missing[0]}.")
        self.physics, self.dtype = physics, dtype
        self.channels = check_whole(channels, "channels", 1)
        check_cg(tolerance, max_iterations)
        self.tolerance, self.max_iterations = tolerance, max_iterations
        super().to(_device_of(physics) if device is None else device)  # the operator goes to the physics
        with torch.no_grad():
            y = physics.A(torch.zeros(1, self.channels, *self.image_size, dtype=dtype, device=self.device))
        if not isinstance(y, Tensor) or y.dim() < 2 or len(y) != 1:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"physics.A must give one row of numbers for each image; got {got} for one image.")
        self._shape, self._complex = tuple(y.shape[1:]), y.is_complex()

    @property
    def measurements(self) -> int:
        """M: real numbers of one image."""
        return math.prod(self._shape) * (2 if self._complex else 1)

    def _measure(self, x: Tensor) -> Tensor:
        y = self.physics.A(x.to(self.dtype))
        return (torch.view_as_real(y) if self._complex else y).flatten(1).to(x.dtype)  # (B, M)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._image(self.physics.A_adjoint(self._native(y)), y)

    def _dagger(self, y: Tensor) -> Tensor:
        if callable(getattr(self.physics, "A_dagger", None)):
            return self._image(self.physics.A_dagger(self._native(y)), y)
        return cg_pseudo_inverse(self, y.double(), self.tolerance, self.max_iterations, self.noise_std).to(y.dtype)

    def _native(self, y: Tensor) -> Tensor:
        """y as the physics has it, (B, …)."""
        y = y.to(self.dtype)
        if not self._complex:
            return y.reshape(len(y), *self._shape)
        return torch.view_as_complex(y.reshape(len(y), *self._shape, 2))

    def _image(self, x: Tensor, y: Tensor) -> Tensor:
        """What the physics gave, (B, C, H, W); the adjoint over the reals has no imaginary part."""
        return (x.real if x.is_complex() else x).to(y.dtype)

    def to(self, device: torch.device | str) -> Self:
        """Move the physics, if it can be moved, and the operator."""
        if callable(getattr(self.physics, "to", None)):
            self.physics = self.physics.to(device)
        return super().to(device)

    from_config = None  # there is no way back; see config()

    def config(self) -> dict[str, Any]:
        """Refuse: only its own library knows how to rebuild the physics."""
        raise InputError(
            f"a Wrapped {type(self.physics).__name__} cannot be saved: save y with numpy, rebuild the physics, "
            "and wrap it again."
        )

    def __repr__(self) -> str:
        return f"Wrapped({self.physics!r}, image_size={self.image_size})  # {self.measurements} numbers"


def _device_of(physics: Any) -> torch.device:
    """Where its first parameter or buffer is; the CPU for what is no module, or holds neither."""
    held = chain(physics.parameters(), physics.buffers()) if isinstance(physics, nn.Module) else ()
    return next((tensor.device for tensor in held), torch.device("cpu"))

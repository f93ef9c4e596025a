"""The wiring with both its scalars free, as the paper's equation has them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from idm_lib.errors import InputError
from idm_lib.reversible.ambient import has_data
from idm_lib.reversible.couplings import V_RANGE, WiredCoupling


class FreeCoupling(WiredCoupling):
    """:class:`WiredCoupling` with a learnable u in the place of 1 − v: y1 = u·F(x1) + v·x2, y2 = x1.

    The paper writes u and v; its authors' code ties u = 1 − v. Only v is divided by, so only v has a range.

    Args:
        body, v, v_range, reading: as there.
        u: the value at the start, 1 − v by default, or an existing parameter of shape [1], which is used as is.

    Raises:
        InputError: as there, or u is not one finite number.
    """

    def __init__(
        self,
        body: Callable[..., Tensor],
        v: float | Tensor = 0.5,
        v_range: tuple[float, float] = V_RANGE,
        u: float | Tensor | None = None,
        reading: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(body, v, v_range, reading)
        if isinstance(u, nn.Parameter):
            self.u = u
        elif isinstance(u, Tensor):  # of a functional call
            self.register_parameter("u", None)
            self._parameters["u"] = u  # type: ignore[assignment]
        else:
            first = super().weights()[0] if u is None else float(u)
            self.u = nn.Parameter(torch.tensor([first]))
        if self.u.shape != (1,) or (has_data(self.u) and not bool(self.u.detach().isfinite())):
            raise InputError(
                f"expected u as one finite number, got {self.u.detach().tolist()}: 1 − v is the usual start"
            )

    def mix(self, f: Tensor, x2: Tensor) -> Tensor:
        """Return u·f + v·x2."""
        return self.u.to(x2.dtype) * f.to(x2.dtype) + self.effective_v().to(x2.dtype) * x2

    def unmix(self, f: Tensor, y1: Tensor) -> Tensor:
        """Return (y1 − u·f) / v."""
        return (y1 - self.u.to(y1.dtype) * f.to(y1.dtype)) / self.effective_v().to(y1.dtype)

    def weights(self) -> tuple[float, float]:
        """Return (u, v); where they hold no data, those of the middle of v's range."""
        tied = super().weights()
        return (float(self.u.detach()) if has_data(self.u) else tied[0]), tied[1]

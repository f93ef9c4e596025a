"""Total variation: of all images that explain the measurements, the one with the least gradient."""

from typing import Any

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from idm_lib.diffusion.range_null import range_null_step
from idm_lib.operators.base import check_measurements
from idm_lib.solvers.base import Progress, Recorder, Solution, check_iterations


@torch.no_grad()
def tv(
    y: Tensor,
    op: Any,
    prior: Any = None,
    *,
    iterations: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_intermediates: bool = False,
    first_weight: float = 0.1,
    last_weight: float = 0.0005,
) -> Solution:
    """Accelerated proximal gradient on ½‖A⁺(A x − y)‖² + λ TV(x), λ falling from iteration to iteration.

    x ← prox_{λ TV}(z − A⁺(A z − y)), z = x + momentum (Beck and Teboulle, SIAM J. Imaging Sci. 2(1), 2009); the
    prox is scikit-image's (Chambolle, J. Math. Imaging Vis. 20, 2004). Where A's rows are orthonormal, the first term
    is ½‖A x − y‖². Seen through A⁺ its gradient, A⁺(A x − y), is a projection for any A, so the step length is 1.
    Ends with a projection onto the measurements. No gradient passes through it: the prox is numpy's.

    Args and errors: see :class:`~idm_lib.solvers.base.Solver`; ``prior`` and ``seed`` play no part. And:
        first_weight, last_weight: λ's course, tuned on held-out training images (results/tuning.json).
    """
    total = check_iterations(iterations, 100)
    recorder = Recorder(total, progress, keep_intermediates)
    x = z = op.A_dagger(check_measurements(y))  # (B, 1, H, W)
    momentum = 1.0
    for weight in np.geomspace(first_weight, last_weight, total):
        before, x = x, _prox(range_null_step(z, y, op), float(weight))
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        z, momentum = x + (momentum - 1) / after * (x - before), after
        recorder.step(x, weight=float(weight))
    return recorder.solution(range_null_step(x, y, op), network_calls=0)


def _prox(x: Tensor, weight: float) -> Tensor:
    """Image by image on the CPU, where the library's prox runs: (B, 1, H, W) → (B, 1, H, W)."""
    planes = [denoise_tv_chambolle(p, weight=weight, max_num_iter=20) for p in x[:, 0].double().cpu().numpy()]
    return torch.from_numpy(np.stack(planes))[:, None].to(x)

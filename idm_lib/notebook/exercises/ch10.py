"""Exercises of chapter 10: measurement injectors."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import idm_lib as idm
from idm_lib.models.injector import Injector
from idm_lib.notebook.exercise import Exercise, require

# 10.1 ---------------------------------------------------------------------------------


def injector_weights(channels: int, scale: int) -> int:
    """Return the number of weights and biases of one injector."""
    maps = channels // scale**2
    f2i = maps + 1
    i2f = 3 * maps + maps
    return f2i + i2f


def _forgets_the_shuffle(channels: int, scale: int) -> int:
    return channels + 1 + 4 * channels


def _forgets_biases(channels: int, scale: int) -> int:
    return 4 * channels // scale**2


def _check_weights(answer: Callable[..., Any]) -> None:
    for channels, scale in ((16, 2), (320, 2), (640, 4)):
        want = sum(p.numel() for p in Injector(channels, scale).parameters())
        got = answer(channels, scale)
        require(
            got == want,
            f"{channels} channels at p = {scale}: {want} numbers, not {got}; the convolutions work "
            "after the pixel shuffle, and both have biases",
        )


# 10.2 ---------------------------------------------------------------------------------


def gradient_step(step: float) -> tuple:
    """Return i2f's three weights for which it returns u − step · (gradient of the misfit at u)."""
    return (1.0, -step, step)


def _uphill(step: float) -> tuple:
    return (1.0, step, -step)


def _forgets_u(step: float) -> tuple:
    return (0.0, -step, step)


def _check_step(answer: Callable[..., Any]) -> None:
    op = idm.BlockCS(image_size=(16, 16), ratio=0.3)
    generator = torch.Generator().manual_seed(0)
    u, x = torch.rand(2, 1, 1, 16, 16, generator=generator, dtype=torch.float64)
    y = op.A(x)
    measured, back_projection = op.A_adjoint(op.A(u)), op.A_adjoint(y)
    for step in (0.1, 0.7, 1.0):
        weights = answer(step)
        require(
            isinstance(weights, tuple | list) and len(weights) == 3,
            "return three numbers, for u, AᵀA u and Aᵀy",
        )
        a, b, c = weights
        got = a * u + b * measured + c * back_projection
        before, after = ((y - op.A(image)).norm() for image in (u, got))
        require(
            after < before,
            f"with a step of {step} the misfit grew from {before:.2f} to {after:.2f}: go downhill, from u",
        )
        require(
            torch.allclose(got, u - step * (measured - back_projection)),
            f"the misfit fell, but this is not a step of {step}",
        )


# 10.3 ---------------------------------------------------------------------------------


def seen_inside(
    u: torch.Tensor, op: idm.BlockCS, height: int, width: int
) -> torch.Tensor:
    """Return AᵀA of the image's part of a padded u, (B, 1, H', W'), zero on the padding."""
    seen = op.A_adjoint(op.A(u[..., :height, :width]))
    right, bottom = u.shape[-1] - width, u.shape[-2] - height
    return F.pad(seen, (0, right, 0, bottom))


def _forgets_to_pad(
    u: torch.Tensor, op: idm.BlockCS, height: int, width: int
) -> torch.Tensor:
    return op.A_adjoint(op.A(u[..., :height, :width]))


def _pads_at_the_top(
    u: torch.Tensor, op: idm.BlockCS, height: int, width: int
) -> torch.Tensor:
    seen = op.A_adjoint(op.A(u[..., :height, :width]))
    return F.pad(seen, (u.shape[-1] - width, 0, u.shape[-2] - height, 0))


def _swaps_the_sides(
    u: torch.Tensor, op: idm.BlockCS, height: int, width: int
) -> torch.Tensor:
    seen = op.A_adjoint(op.A(u[..., :height, :width]))
    return F.pad(seen, (0, u.shape[-2] - height, 0, u.shape[-1] - width))


def _check_seen(answer: Callable[..., Any]) -> None:
    for height, width in ((13, 18), (15, 9), (16, 16)):
        op = idm.BlockCS(image_size=(height, width), ratio=0.3)
        shape = (2, 1, height + -height % 4, width + -width % 4)
        u = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        got = answer(u, op, height, width)
        require(
            torch.is_tensor(got) and got.shape == u.shape,
            f"an image of {height} × {width} padded to {shape[2]} × {shape[3]} must keep the padded shape",
        )
        require(
            torch.allclose(got, seen_inside(u, op, height, width), atol=1e-6),
            "the shape is right, the values are not: the padding is below and to the right, and zero there",
        )


# 10.4 ---------------------------------------------------------------------------------


def verdict(ours: list, control: list) -> str:
    """Return 'better', 'worse' or 'cannot tell', from scores with the same seeds in order."""
    gaps = [a - b for a, b in zip(ours, control, strict=True)]
    if min(gaps) > 0:
        return "better"
    return "worse" if max(gaps) < 0 else "cannot tell"


def _compares_means(ours: list, control: list) -> str:
    return "better" if sum(ours) > sum(control) else "worse"


def _compares_ranges(ours: list, control: list) -> str:
    if min(ours) > max(control):
        return "better"
    return "worse" if max(ours) < min(control) else "cannot tell"


def _check_verdict(answer: Callable[..., Any]) -> None:
    cases = (
        ([30.1, 31.2, 29.4], [30.0, 31.0, 29.1], "better"),
        ([30.1, 31.2, 29.0], [30.0, 31.0, 29.1], "cannot tell"),
        ([28.0, 27.5, 29.0], [28.2, 27.6, 29.5], "worse"),
    )
    for ours, control, want in cases:
        got = answer(ours, control)
        require(
            got == want,
            f"{ours} against {control}: {want!r}, not {got!r}; compare seed by seed, and claim "
            "something only if all seeds agree",
        )


EXERCISES = (
    Exercise(
        title="Count an injector",
        task="How many numbers does one injector have, at `channels` channels and scale 1/`scale`?",
        solution=injector_weights,
        check=_check_weights,
        hint="The pixel shuffle leaves `channels / scale²` maps of full size. f2i makes one map of "
        "them, i2f makes as many of three.",
        wrong=(_forgets_the_shuffle, _forgets_biases),
    ),
    Exercise(
        title="An injector as a solver",
        task="Let i2f return one map only. Which weights for $u$, $A^\\top A\\,u$ and $A^\\top y$ make it one step "
        "of gradient descent on $\\tfrac12\\lVert y - A u\\rVert^2$?",
        solution=gradient_step,
        check=_check_step,
        hint="The gradient at u is the second channel less the third.",
        wrong=(_uphill, _forgets_u),
    ),
    Exercise(
        title="Keep the padding out",
        task="The U-Net hands you a padded $u$. The operator was made for `height` × `width`, the top left part. "
        "Return $A^\\top A$ of that part, in the padded shape.",
        solution=seen_inside,
        check=_check_seen,
        hint="`F.pad` wants (left, right, top, bottom): the last dimension comes first.",
        wrong=(_forgets_to_pad, _pads_at_the_top, _swaps_the_sides),
    ),
    Exercise(
        title="Be a sceptic",
        task="You have the scores of two kinds of networks for the same seeds, in order. Say `'better'` or "
        "`'worse'` only if the first kind wins or loses with *every* seed, and `'cannot tell'` otherwise.",
        solution=verdict,
        check=_check_verdict,
        hint="A seed moves both kinds together. So look at the differences, not at the two averages.",
        wrong=(_compares_means, _compares_ranges),
    ),
)

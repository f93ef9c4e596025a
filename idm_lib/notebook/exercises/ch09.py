"""Exercises of chapter 09: the reversible U-Net."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import idm_lib as idm
from idm_lib.notebook.exercise import Exercise, require


class _Body(nn.Module):
    """tanh of a mixture of stream and skip, different for every seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        mixture = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
        self.mixture = nn.Parameter(mixture.double())

    def forward(self, h: Tensor, skip: Tensor) -> Tensor:
        return torch.tanh(torch.cat([h, skip], dim=-1) @ self.mixture.T)


def _streams(number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 4, 3, generator=generator, dtype=torch.float64)


# 09.1 ---------------------------------------------------------------------------------


def undo_run(
    h1: torch.Tensor, h2: torch.Tensor, bodies: list, skips: list, v: float
) -> tuple:
    """Return the pair before y1 = (1 − v)·body(x1, skip) + v·x2, y2 = x1, for each body."""
    for body, skip in zip(reversed(bodies), reversed(skips), strict=True):
        h1, h2 = h2, (h1 - (1 - v) * body(h2, skip)) / v
    return h1, h2


def _skips_in_order(
    h1: torch.Tensor, h2: torch.Tensor, bodies: list, skips: list, v: float
) -> tuple:
    for body, skip in zip(reversed(bodies), skips, strict=True):
        h1, h2 = h2, (h1 - (1 - v) * body(h2, skip)) / v
    return h1, h2


def _first_to_last(
    h1: torch.Tensor, h2: torch.Tensor, bodies: list, skips: list, v: float
) -> tuple:
    for body, skip in zip(bodies, skips, strict=True):
        h1, h2 = h2, (h1 - (1 - v) * body(h2, skip)) / v
    return h1, h2


def _check_undo(answer: Callable[..., Any]) -> None:
    for links, v in ((1, 0.5), (2, 0.3), (5, 0.6)):
        bodies, skips = [_Body(i) for i in range(links)], list(_streams(links, 7))
        before = _streams(2, 8)
        h1, h2 = before
        with torch.no_grad():
            for body, skip in zip(bodies, skips, strict=True):
                h1, h2 = (1 - v) * body(h1, skip) + v * h2, h1
            got = answer(h1, h2, bodies, skips, v)
        require(
            isinstance(got, tuple) and len(got) == 2, "return two tensors, (h1, h2)"
        )
        require(
            torch.allclose(got[0], before[0]) and torch.allclose(got[1], before[1]),
            f"a run of {links} links at v = {v} did not come back: undo the last link first, "
            "and give each body the skip that it had",
        )


# 09.2 ---------------------------------------------------------------------------------


def decode(bodies: list, h: torch.Tensor, skip: torch.Tensor) -> tuple:
    """Run the bodies, each called as body(h, skip), as one wired chain from the pair [h, h]."""
    chain = idm.ReversibleChain([idm.WiredCoupling(body) for body in bodies])
    return chain(h, h, extras=[(skip,) for _ in bodies])


def _detaches(bodies: list, h: torch.Tensor, skip: torch.Tensor) -> tuple:
    chain = idm.ReversibleChain([idm.WiredCoupling(body) for body in bodies])
    return chain(h, h, extras=[(skip.detach(),) for _ in bodies])


def _hides(bodies: list, h: torch.Tensor, skip: torch.Tensor) -> tuple:
    links = [idm.WiredCoupling(lambda x, body=body: body(x, skip)) for body in bodies]
    return idm.ReversibleChain(links)(h, h)


def _gradients(outputs: tuple, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    loss = (outputs[0] * outputs[1].cos()).sum()
    return torch.autograd.grad(loss, inputs, allow_unused=True)


def _check_decode(answer: Callable[..., Any]) -> None:
    bodies = [_Body(i) for i in range(3)]
    h, skip = (stream.requires_grad_() for stream in _streams(2, 9))
    inputs = (h, skip, *(body.mixture for body in bodies))
    h1, h2 = h, h
    for body in bodies:
        h1, h2 = 0.5 * body(h1, skip) + 0.5 * h2, h1
    wanted = _gradients((h1, h2), inputs)
    got = answer(bodies, h, skip)
    require(isinstance(got, tuple) and len(got) == 2, "return the chain's two streams")
    require(
        torch.allclose(got[0], h1),
        "the streams are wrong: begin with [h, h] and use v = 0.5",
    )
    found = _gradients(got, inputs)
    require(
        found[1] is not None,
        "the skip's gradient is lost: it has to be an extra, and attached to its graph",
    )
    same = [
        g is not None and torch.allclose(g, w)
        for g, w in zip(found, wanted, strict=True)
    ]
    require(all(same), "the outputs are right, and a gradient is not")


# 09.3 ---------------------------------------------------------------------------------


def forwards(T: int, k: int, steps: str, blocks: str) -> float:
    """Return how often a layer is evaluated in a training step, divided by the T steps."""
    rebuilt_with_its_step = 0 if steps == "store" else (T - k) / T
    rebuilt_in_its_block = 0 if blocks == "store" else 1
    return 1 + rebuilt_with_its_step + rebuilt_in_its_block


def _forgets_the_blocks(T: int, k: int, steps: str, blocks: str) -> float:
    return 1 if steps == "store" else 2 - k / T


def _always_rebuilds(T: int, k: int, steps: str, blocks: str) -> float:
    return 1 + (steps != "store") + (blocks != "store")


def _check_forwards(answer: Callable[..., Any]) -> None:
    kinds = ("store", "checkpoint", "invert")
    for T, k in ((3, 0), (3, 1), (3, 3), (10, 1)):
        for steps in kinds:
            for blocks in kinds:
                got, want = answer(T, k, steps, blocks), forwards(T, k, steps, blocks)
                require(
                    isinstance(got, int | float) and abs(got - want) < 1e-9,
                    f"T = {T}, k = {k}, steps '{steps}', blocks '{blocks}': {want:.3f}, not {got}; count the "
                    "forward pass, the rebuilding of the step, and that of the block",
                )


# 09.4 ---------------------------------------------------------------------------------


def fastest_that_fits(options: list, budget: float) -> str:
    """Return the name of the option (name, GiB, forward units) that is fastest within budget."""
    fitting = [(units, gib, name) for name, gib, units in options if gib <= budget]
    return min(fitting)[2] if fitting else "none"


def _least_memory(options: list, budget: float) -> str:
    return min(options, key=lambda option: option[1])[0]


def _forgets_that_none_may_fit(options: list, budget: float) -> str:
    return min((units, gib, name) for name, gib, units in options if gib <= budget)[2]


def _check_fastest(answer: Callable[..., Any]) -> None:
    options = [
        ("all stored", 90.0, 3.0),
        ("half stored", 20.0, 3.5),
        ("inverted", 6.0, 4.5),
        ("both", 20.0, 5.0),
    ]
    for budget, want in (
        (100, "all stored"),
        (24, "half stored"),
        (20, "half stored"),
        (8, "inverted"),
        (4, "none"),
    ):
        try:
            got = answer(options, budget)
        except ValueError:
            got = "an error"
        require(
            got == want,
            f"with {budget} GiB the answer is {want!r}, not {got!r}; if nothing fits, 'none'",
        )


EXERCISES = (
    Exercise(
        title="Undo a run with skips",
        task="Write the inverse of a run whose bodies take a skip each. Call each body once.",
        solution=undo_run,
        check=_check_undo,
        hint="The last link is undone first. Which skip did the last body take?",
        wrong=(_skips_in_order, _first_to_last),
    ),
    Exercise(
        title="Bring the skip into the open",
        task="Three bodies read one skip. Run them as a chain, with `idm.WiredCoupling` at its usual "
        "$v = 0.5$, so that the gradient reaches the skip.",
        solution=decode,
        check=_check_decode,
        hint="`extras` wants one tuple for each link, even if all of them hold the same tensor.",
        wrong=(_detaches, _hides),
    ),
    Exercise(
        title="Count the forwards",
        task="How often is a layer evaluated, per step of the chain? Each level is `'store'`, "
        "`'checkpoint'` or `'invert'`, and the last $k$ of $T$ steps keep what their chains need. "
        "With stored steps $k$ means nothing.",
        solution=forwards,
        check=_check_forwards,
        hint="Begin with the one forward pass that nobody can save. Then ask of each level whether "
        "it has to compute the layer again, and in how many of the steps.",
        wrong=(_forgets_the_blocks, _always_rebuilds),
    ),
    Exercise(
        title="Choose for a card",
        task="Which option is the fastest that fits into `budget` GiB? If two are equally fast, take the "
        "smaller one. If none fits, say `'none'`.",
        solution=fastest_that_fits,
        check=_check_fastest,
        hint="Filter first, then take the minimum of (units, GiB).",
        wrong=(_least_memory, _forgets_that_none_may_fit),
    ),
)

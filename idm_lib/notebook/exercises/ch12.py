"""Exercises of chapter 12: full scale on a GPU."""

from collections.abc import Callable
from typing import Any

import torch

from idm_lib.models.stable_diffusion import source_key
from idm_lib.notebook.exercise import Exercise, require

# 12.1 ---------------------------------------------------------------------------------


def parts(batch: int, processes: int, at_once: int) -> int:
    """Return the least `accumulate` with at most at_once crops at a time on each GPU."""
    share = batch // processes
    for number in range(1, share + 1):
        if share % number == 0 and share // number <= at_once:
            return number
    return share


def _rounds_up(batch: int, processes: int, at_once: int) -> int:
    return -(-batch // processes // at_once)


def _forgets_the_others(batch: int, processes: int, at_once: int) -> int:
    return parts(batch, 1, at_once)


def _always_one_by_one(batch: int, processes: int, at_once: int) -> int:
    return batch // processes


def _check_parts(answer: Callable[..., Any]) -> None:
    for batch, processes, at_once in (
        (32, 1, 8),
        (32, 4, 8),
        (32, 4, 3),
        (12, 2, 4),
        (30, 1, 8),
        (7, 1, 3),
    ):
        share, got = batch // processes, answer(batch, processes, at_once)
        case = f"{batch} crops, {processes} GPU(s), at most {at_once} at a time"
        require(
            share % got == 0,
            f"{case}: a GPU's {share} crops do not divide into {got} equal parts, and unequal parts would not weigh "
            "every crop alike",
        )
        require(
            share // got <= at_once,
            f"{case}: {got} part(s) of {share // got} crops are too large",
        )
        want = parts(batch, processes, at_once)
        require(
            got == want,
            f"{case}: {want} parts suffice, not {got}; fewer parts keep the GPU busier",
        )


# 12.2 ---------------------------------------------------------------------------------


def theirs(name: str, levels: int) -> str:
    """Return Stable Diffusion's name of a tensor of ours; it has `levels` levels, ours has the 2 finest."""
    words = name.removeprefix("unet.").split(".")
    if (
        words[0] == "up_blocks"
    ):  # counted from the coarsest level, which ours leaves out
        words[1] = str(int(words[1]) + levels - 2)
    return ".".join(words)


def _keeps_the_number(name: str, levels: int) -> str:
    return name.removeprefix("unet.")


def _shifts_both_ways(name: str, levels: int) -> str:
    words = name.removeprefix("unet.").split(".")
    if words[0] in ("up_blocks", "down_blocks"):
        words[1] = str(int(words[1]) + levels - 2)
    return ".".join(words)


def _counts_backwards(name: str, levels: int) -> str:
    words = name.removeprefix("unet.").split(".")
    if words[0] == "up_blocks":
        words[1] = str(levels - 1 - int(words[1]))
    return ".".join(words)


def _check_theirs(answer: Callable[..., Any]) -> None:
    names = (
        "unet.conv_in.weight",
        "unet.down_blocks.1.resnets.0.conv1.weight",
        "unet.up_blocks.0.attentions.2.proj_out.bias",
        "unet.up_blocks.1.resnets.1.conv2.weight",
    )
    for levels in (4, 3, 2):
        for name in names:
            want, got = source_key(name, levels), answer(name, levels)
            require(
                got == want,
                f"{name} of a U-Net with {levels} levels is called {want}, not {got}",
            )


# 12.3 ---------------------------------------------------------------------------------


def next_scale(
    scale: float, good: int, finite: bool, interval: int
) -> tuple[float, int]:
    """Return the loss scale after an update, and how many updates in a row have been good."""
    if not finite:
        return scale / 2, 0  # the update was left out
    good = good + 1
    if good == interval:
        return scale * 2, 0
    return scale, good


def _never_rises(
    scale: float, good: int, finite: bool, interval: int
) -> tuple[float, int]:
    return (scale, good + 1) if finite else (scale / 2, 0)


def _forgives(
    scale: float, good: int, finite: bool, interval: int
) -> tuple[float, int]:
    return next_scale(scale, good, True, interval) if finite else (scale / 2, good)


def _rises_at_once(
    scale: float, good: int, finite: bool, interval: int
) -> tuple[float, int]:
    return (scale * 2, 0) if finite else (scale / 2, 0)


def _torch_scales(course: list[bool], interval: int) -> list[float]:
    """What torch's own scaler does when gradients are finite, or not, in this order."""
    weight = torch.nn.Parameter(torch.ones(()))
    optimiser = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=interval)
    scales = []
    for finite in course:
        scaler.scale(weight * (1.0 if finite else float("inf"))).backward()
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad()
        scales.append(scaler.get_scale())
    return scales


def _check_next_scale(answer: Callable[..., Any]) -> None:
    course = [
        True,
        True,
        False,
        True,
        True,
        True,
        False,
        False,
        True,
        True,
        True,
        True,
        True,
        True,
    ]
    for interval in (3, 2):
        scale, good = 1024.0, 0
        for update, (finite, want) in enumerate(
            zip(course, _torch_scales(course, interval), strict=True)
        ):
            found = answer(scale, good, finite, interval)
            require(
                isinstance(found, tuple) and len(found) == 2,
                "return two numbers: the scale and the count",
            )
            scale, good = found
            spoken = ["∞" if not f else "ok" for f in course[: update + 1]]
            require(
                scale == want,
                f"after gradients that were {', '.join(spoken)}, with {interval} good ones in a row for a rise: "
                f"{want:g}, not {scale:g}",
            )


# 12.4 ---------------------------------------------------------------------------------


def fastest(plans: list, budget: float) -> str:
    """Return the policy with the fewest forward_units whose total_gib is within the budget, "" if none is."""
    fitting = [plan for plan in plans if plan["total_gib"] <= budget]
    if not fitting:
        return ""
    return min(fitting, key=lambda plan: plan["forward_units"])["policy"]


def _smallest(plans: list, budget: float) -> str:
    fits = any(plan["total_gib"] <= budget for plan in plans)
    return min(plans, key=lambda plan: plan["total_gib"])["policy"] if fits else ""


def _ignores_the_budget(plans: list, budget: float) -> str:
    return min(plans, key=lambda plan: plan["forward_units"])["policy"]


def _first_that_fits(plans: list, budget: float) -> str:
    return next((plan["policy"] for plan in plans if plan["total_gib"] <= budget), "")


def _check_fastest(answer: Callable[..., Any]) -> None:
    numbers = {
        "lean": (9.1, 4.9),
        "store": (114.3, 3.3),
        "default": (10.0, 4.0),
        "fast": (16.7, 3.7),
    }
    plans = [
        {"policy": name, "total_gib": gib, "forward_units": units}
        for name, (gib, units) in numbers.items()
    ]
    for budget, want in (
        (200, "store"),
        (20, "fast"),
        (12, "default"),
        (9.5, "lean"),
        (5, ""),
    ):
        got = answer(plans, budget)
        require(
            got == want,
            f"with {budget} GiB for {', '.join(f'{n}: {g} GiB, {u} forwards' for n, (g, u) in numbers.items())}: "
            f"{want!r}, not {got!r}",
        )


EXERCISES = (
    Exercise(
        title="In how many parts?",
        task="A batch is shared by several GPUs, and each computes its share in `accumulate` equal parts, one after "
        "another. Return the least number of parts for which no GPU has more than `at_once` crops at a time.",
        solution=parts,
        check=_check_parts,
        hint="A GPU's share is `batch // processes`. Try 1, 2, 3 … parts; the share must divide without a rest.",
        wrong=(_rounds_up, _forgets_the_others, _always_one_by_one),
    ),
    Exercise(
        title="Whose tensor is it?",
        task="The pruned U-Net keeps Stable Diffusion's names. But diffusers counts down blocks from the finest "
        "level and up blocks from the coarsest, and ours has only the two finest. Translate.",
        solution=theirs,
        check=_check_theirs,
        hint="Of four levels, our `up_blocks.0` is the third that Stable Diffusion goes through on the way up.",
        wrong=(_keeps_the_number, _shifts_both_ways, _counts_backwards),
    ),
    Exercise(
        title="The loss scale",
        task="In float16 small gradients vanish, so the loss is multiplied by a scale. When a gradient "
        "overflows, the update is left out and the scale halves. After `interval` good updates in a row it doubles, "
        "and the count begins anew. Return the new scale and the new count.",
        solution=next_scale,
        check=_check_next_scale,
        hint="Three cases: an overflow, the last good update of a full interval, and any other good update.",
        wrong=(_never_rises, _forgives, _rises_at_once),
    ),
    Exercise(
        title="The fastest that fits",
        task="You have the plans of several memory policies and so much memory. Which policy do you take? Fewer "
        "forward passes' worth of work means faster.",
        solution=fastest,
        check=_check_fastest,
        hint="First drop what does not fit, then take the `min` by `forward_units`.",
        wrong=(_smallest, _ignores_the_budget, _first_that_fits),
    ),
)

"""The operator of every training step: another ratio, seed or geometry each time, by the step's number alone."""

import inspect
from contextlib import suppress
from typing import Any

import torch

from idm_lib.errors import InputError
from idm_lib.operators import BlockCS, LinearOperator, operator_class, operator_from_config
from idm_lib.training.config import MeasureConfig

DRAWS = ("log", "uniform")
KEPT = 8  # operators of numbers alone that are kept: to make a CT's sparse matrix again takes longer than a step


class OperatorSource:
    """Operators for a chain's training and validation.

    Args:
        measure: what is drawn and what is not.
        side: of the training crops, pixels.
        seed: of the run.

    Raises:
        InputError: ratios out of order, an unknown draw, or numbers that make no operator.
    """

    def __init__(self, measure: MeasureConfig, side: int, seed: int) -> None:
        if not 0 < measure.low <= measure.high <= 1:
            raise InputError(f"measure needs 0 < low ≤ high ≤ 1; got {measure.low} and {measure.high}.")
        if measure.draw not in DRAWS:
            raise InputError(f"measure.draw must be one of {', '.join(DRAWS)}; got {measure.draw!r}.")
        self.measure, self.side, self.seed = measure, side, seed
        self._made: dict[str, LinearOperator] = {}
        self._block_cs = None
        if measure.operator:
            self._takes = set(inspect.signature(operator_class(measure.operator.get("operator"))).parameters)
            if "image_size" not in self._takes or "image_size" in measure.operator:
                raise InputError("measure.operator must be one of images, without image_size: a crop has the size.")
            self._try_all()  # refuses what no operator can be made from, before anything is trained
        else:
            self._block_cs = BlockCS((side, side), measure.high, measure.block_size, measure.seed)

    def __call__(self, step: int) -> LinearOperator:
        """The operator of one step."""
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        part = float(torch.rand((), generator=generator, dtype=torch.float64))
        low, high = self.measure.low, self.measure.high
        ratio = min(low * (high / low) ** part if self.measure.draw == "log" else low + (high - low) * part, high)
        seed = int(torch.randint(2**31, (), generator=generator))
        if self._block_cs is not None:
            return self._block_cs.replace(ratio, seed)
        drawn: dict[str, Any] = {}
        for name, value in self.measure.operator.items():
            if isinstance(value, list):
                drawn[name] = value[int(torch.randint(len(value), (), generator=generator))]
        return self._make(self.side, ratio, seed, drawn)

    def _try_all(self) -> None:
        """Make an operator with every value of every list, each beside the others' middle ones."""
        lists = {name: value for name, value in self.measure.operator.items() if isinstance(value, list)}
        for name, values in lists.items():
            if not values:
                raise InputError(f"measure.operator.{name} must be a number or a list of some; got an empty list.")
        middle = _middle(self.measure.operator)
        for drawn in [{name: value} for name, values in lists.items() for value in values] or [{}]:
            self._make(self.side, self.measure.high, 0, middle | drawn)

    def validation_side(self, most: int) -> int:
        """The largest side up to ``most``, pixels, that the operators are known to fit: of 16s, of 2s, or a crop's.

        What is thinned out must divide, and a fast transform asks for a power of two.

        Raises:
            InputError: there is none.
        """
        if self._block_cs is not None:
            return most
        sides = [
            most - most % 16,
            *sorted({2 ** (most.bit_length() - 1), self.side} - {most - most % 16}, reverse=True),
        ]
        for side in sides[:-1]:
            with suppress(InputError):
                self.for_validation(side)
                return side
        self.for_validation(sides[-1])
        return sides[-1]

    def for_validation(self, side: int) -> dict[str, LinearOperator]:
        """What is validated with, by name: three ratios where the ratio is drawn, else one operator."""
        if self._block_cs is not None:
            measure = self.measure
            return {
                f"@{ratio:g}": BlockCS((side, side), ratio, measure.block_size, measure.seed, permutation_seed=1)
                for ratio in VALIDATION_RATIOS
            }
        middle = _middle(self.measure.operator)
        if not self._draws_ratio:
            return {"": self._make(side, 1.0, 1, middle)}
        ratios = (self.measure.low, (self.measure.low + self.measure.high) / 2, self.measure.high)
        return {f"@{ratio:g}": self._make(side, ratio, 1, middle) for ratio in ratios}

    @property
    def _draws_ratio(self) -> bool:
        return "ratio" in self._takes and not {"ratio", "mask"} & set(self.measure.operator)

    def _make(self, side: int, ratio: float, seed: int, drawn: dict[str, Any]) -> LinearOperator:
        config = {**self.measure.operator, **drawn, "image_size": (side, side)}
        if self._draws_ratio:
            config["ratio"] = ratio
        if "seed" in self._takes and "seed" not in self.measure.operator:
            config["seed"] = seed
            return operator_from_config(config)
        key = repr(sorted(config.items(), key=str))
        if key not in self._made:
            if len(self._made) >= KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[key] = operator_from_config(config)
        return self._made[key]


def _middle(operator: dict[str, Any]) -> dict[str, Any]:
    """Of every list the value in its middle."""
    return {name: values[len(values) // 2] for name, values in operator.items() if isinstance(values, list)}


VALIDATION_RATIOS = (0.1, 0.3, 0.5)

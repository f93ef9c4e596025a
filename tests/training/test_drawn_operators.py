"""The operator of every step: drawn where it is left open, kept where it is not, and by the step's number alone."""

import dataclasses

import pytest
import torch

from idm_lib.errors import InputError
from idm_lib.training.config import MeasureConfig
from idm_lib.training.operators import OperatorSource


def source(operator, side=32, **measure):
    return OperatorSource(MeasureConfig(operator=operator, **measure), side, seed=3)


def test_a_ratio_and_a_seed_that_are_left_open_are_drawn():
    drawn = source({"operator": "Inpainting"}, low=0.2, high=0.6, draw="uniform")
    ops = [drawn(step) for step in range(40)]
    assert all(0.2 <= op.ratio <= 0.6 for op in ops)
    assert len({op.seed for op in ops}) == 40
    assert [op.config() for op in ops] == [
        source({"operator": "Inpainting"}, low=0.2, high=0.6, draw="uniform")(step).config() for step in range(40)
    ], "by the step's number alone"


def test_what_is_given_is_kept_and_of_a_list_one_is_drawn():
    ops = [source({"operator": "MRI", "ratio": 0.25, "pattern": ["cartesian", "radial"]})(i) for i in range(20)]
    assert {op.ratio for op in ops} == {0.25}
    assert {op.pattern for op in ops} == {"cartesian", "radial"}
    fixed = source({"operator": "Inpainting", "ratio": 0.5, "seed": 7})
    assert {fixed(i).seed for i in range(5)} == {7}


def test_what_takes_long_to_make_is_made_once():
    drawn = source({"operator": "ParallelBeamCT", "views": [10, 20]})
    ops = [drawn(step) for step in range(12)]
    assert {op.views for op in ops} == {10, 20}
    assert len({id(op) for op in ops}) == 2


def test_what_is_validated_with():
    assert list(source({}).for_validation(32)) == ["@0.1", "@0.3", "@0.5"]
    (only,) = source({"operator": "SuperResolution", "factor": 4}).for_validation(48).items()
    assert only[0] == ""
    assert only[1].image_size == (48, 48)
    found = source({"operator": "Inpainting"}, low=0.1, high=0.5).for_validation(32)
    assert [round(op.ratio, 9) for op in found.values()] == [0.1, 0.3, 0.5]
    assert source({"operator": "ParallelBeamCT", "views": [10, 20, 30]}).for_validation(32)[""].views == 20


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        ({"operator": "MIR"}, "operator must be one of"),
        ({"ratio": 0.5}, "operator must be one of"),
        ({"operator": "SuperResolution", "factor": 5}, "multiples of the factor 5"),
        ({"operator": "SuperResolution", "factor": 4, "image_size": [8, 8]}, "without image_size"),
        ({"operator": "Inpainting", "ratio": 2.0}, "ratio must lie in"),
        ({"operator": "SuperResolution"}, "needs image_size, factor"),
        ({"operator": "SuperResolution", "factor": []}, "measure.operator.factor must be .*; got an empty list"),
        ({"operator": "SuperResolution", "factor": [2, 4, 5]}, "multiples of the factor 5"),
    ],
)
def test_refusals(operator, words):
    with pytest.raises(InputError, match=words):
        source(operator)


@pytest.mark.parametrize(
    ("operator", "crop", "most", "side"),
    [
        ({}, 32, 50, 50),
        ({"operator": "SuperResolution", "factor": 4}, 32, 150, 144),
        ({"operator": "Hadamard"}, 32, 160, 128),
        ({"operator": "Hadamard"}, 32, 32, 32),
        ({"operator": "SuperResolution", "factor": 4}, 8, 8, 8),
        ({"operator": "SuperResolution", "factor": 3}, 12, 12, 12),
        ({"operator": "SuperResolution", "factor": 3}, 33, 40, 33),
    ],
)
def test_what_is_validated_with_has_a_size_that_its_operators_fit(operator, crop, most, side):
    drawn = source(operator, crop)
    assert drawn.validation_side(most) == side
    assert all(op.image_size == (side, side) for op in drawn.for_validation(side).values())


def test_without_an_operator_it_is_the_block_cs_of_before():
    plain = OperatorSource(MeasureConfig(low=0.1, high=0.5), 32, seed=3)
    generator = torch.Generator().manual_seed((3 << 32) + 5)
    part = float(torch.rand((), generator=generator, dtype=torch.float64))
    permutation = int(torch.randint(2**31, (), generator=generator))
    assert plain(5).ratio == pytest.approx(0.1 * 5**part)
    assert plain(5).permutation_seed == permutation
    with pytest.raises(InputError, match="0 < low"):
        OperatorSource(dataclasses.replace(plain.measure, low=0.0), 32, 0)

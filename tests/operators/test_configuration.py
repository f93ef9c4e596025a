"""Operators from what was saved of them: the library's and a user's own, and plain words for anything else."""

import pytest

import idm_lib as idm
from idm_lib.operators import ImageOperator

SMALL = {"operator": "SuperResolution", "image_size": [8, 8], "factor": 2}


def test_by_name_and_a_few_numbers():
    op = idm.operator_from_config(SMALL)
    assert isinstance(op, idm.SuperResolution)
    assert (op.image_size, op.kernel) == ((8, 8), "bicubic")
    assert (
        idm.operator_from_config(idm.BlockCS((9, 7), 0.5).config()).measurements
        == idm.BlockCS((9, 7), 0.5).measurements
    )


def test_a_users_own_class_is_found_too():
    class EverySecond(ImageOperator):
        measurements = 32

        def _measure(self, x):
            return x.flatten(1)[:, ::2]

        def _adjoint(self, y):
            raise NotImplementedError

    assert isinstance(idm.operator_from_config({"operator": "EverySecond", "image_size": [8, 8]}), EverySecond)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([1, 2], 'an object with "operator"'),
        ({"factor": 2}, "got ['factor']"),
        ({"operator": "Telescope"}, "must be one of BlockCS, "),
        ({"operator": "ImageOperator"}, "got 'ImageOperator'"),
        ({"operator": "Subset"}, "got 'Subset'"),
        ({"operator": "Wrapped", "image_size": [8, 8]}, "got 'Wrapped'"),
        ({"operator": ["BlockCS"]}, "got ['BlockCS']"),
        (SMALL | {"colour": 1}, "nothing unknown"),
        ({"operator": "SuperResolution", "image_size": [8, 8]}, "needs image_size, factor"),
        (SMALL | {"factor": 3}, "multiples of the factor 3"),
        (SMALL | {"kernel": ["box"]}, "SuperResolution has a value of the wrong kind"),
        (SMALL | {"noise_std": "loud"}, "noise_std must be"),
        ({"operator": "MRI", "image_size": [8, 8], "ratio": 0.5, "centre": "wide"}, "of the wrong kind"),
        ({"operator": "Inpainting", "image_size": [8, 8], "ratio": None}, "needs a ratio"),
    ],
)
def test_what_makes_no_operator_gets_one_sentence(config, words):
    with pytest.raises(idm.InputError) as caught:
        idm.operator_from_config(config)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_of_another_class_is_refused():
    with pytest.raises(idm.InputError, match="configuration of a SuperResolution; expected a Hadamard"):
        idm.Hadamard.from_config(SMALL)

"""An operator from the few numbers that were saved of it."""

import inspect
from collections.abc import Mapping
from typing import Any

from idm_lib.errors import InputError
from idm_lib.operators.base import LinearOperator


def operator_class(name: Any) -> type:
    """The operator class of that name that can be rebuilt: the library's, or any subclass that is imported.

    Raises:
        InputError: there is none.
    """
    found = _by_name()
    if not isinstance(name, str) or name not in found:
        raise InputError(f"operator must be one of {', '.join(operator_names())}; got {name!r}.")
    return found[name]


def operator_names() -> list[str]:
    """Of all operator classes that :func:`operator_class` finds, in alphabetical order."""
    return sorted(_by_name())


def operator_from_config(config: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> LinearOperator:
    """Rebuild an operator from its ``config()`` and, if it has any, its ``arrays()``.

    Args:
        config: ``{"operator": "SuperResolution", "image_size": [64, 64], "factor": 4}``, say.
        arrays: as ``{"mask": …}``.

    Raises:
        InputError: not a configuration, of no known operator, or with numbers that make none.
    """
    if not isinstance(config, Mapping) or "operator" not in config:
        got = f"{sorted(map(str, config))}" if isinstance(config, Mapping) else type(config).__name__
        raise InputError(f'a configuration must be an object with "operator", its class, and its numbers; got {got}.')
    cls = operator_class(config["operator"])
    try:
        return cls.from_config({**config, **(arrays or {})})
    except TypeError as error:  # a list where a number belongs, say
        raise InputError(f"the configuration of the {cls.__name__} has a value of the wrong kind: {error}.") from None


def _by_name() -> dict[str, type]:
    return {cls.__name__: cls for cls in reversed(_subclasses(LinearOperator))}  # the library's win: they came first


def _subclasses(cls: type) -> list[type]:
    """All classes below ``cls`` that can be built from a configuration, oldest first."""
    below = [sub for direct in cls.__subclasses__() for sub in (direct, *_subclasses(direct))]
    return [sub for sub in below if callable(getattr(sub, "from_config", None)) and not inspect.isabstract(sub)]

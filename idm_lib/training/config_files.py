"""Configurations as files: YAML from a path or by a shipped name, overridden by ``key=value``, checked by type."""

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from idm_lib.errors import InputError


def read_tree(source: str | Path, overrides: list[str]) -> Any:
    """What a YAML file, or the configuration of that name which comes with the package, says, after ``overrides``.

    Args:
        source: a path, or a shipped name.
        overrides: ``key=value`` or ``section.key=value``, values in YAML.

    Raises:
        InputError: no such file, not YAML, or an override that is none.
    """
    path = Path(source)
    shipped = files("idm_lib.training") / "configs" / f"{source}.yaml"
    if not path.is_file() and not shipped.is_file():
        raise InputError(f"there is no configuration {source}; give a YAML file or one of {shipped_configs()}.")
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else shipped.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{source} is not valid YAML: {str(error).splitlines()[0]}.") from None
    tree = {} if tree is None else tree
    for item in overrides:
        _override(tree, item)
    return tree


def shipped_configs() -> str:
    """The names of the configurations that come with the package, for messages."""
    folder = files("idm_lib.training") / "configs"
    return ", ".join(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())) or "(none)"


def _override(tree: Any, item: str) -> None:
    """Set what ``section.key=value`` says, in place."""
    key, found, text = item.partition("=")
    *sections, leaf = key.split(".")
    if not found or not leaf:
        raise InputError(f"an override must look like key=value; got {item!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"the override {item!r} is not valid YAML: {str(error).splitlines()[0]}.") from None
    for section in sections:
        tree = tree.setdefault(section, {}) if isinstance(tree, dict) else None
    if not isinstance(tree, dict):
        raise InputError(f"the override {item!r} names a section that is not one; give section.key=value.")
    tree[leaf] = value


def build(kind: type, tree: Any, where: str) -> Any:
    """A dataclass from a YAML mapping, each value checked against its field's type.

    Args:
        kind: the dataclass.
        tree: what YAML gave.
        where: what messages call it.

    Raises:
        InputError: no mapping, an unknown key, or a value of the wrong type.
    """
    if not isinstance(tree, dict):
        raise InputError(f"{where} must be a mapping of keys to values; got {type(tree).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in tree:
        if key not in fields:
            raise InputError(f"{where} has an unknown key {key!r}; known keys are {', '.join(fields)}.")
    values = {}
    for key, value in tree.items():
        wanted = fields[key].type
        if dataclasses.is_dataclass(wanted):
            values[key] = build(wanted, value, f"{where}: {key}")
        elif wanted is float and isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                values[key] = float(value)  # YAML reads 1e-3 as a string
            except ValueError:
                raise InputError(f"{where}: {key} must be a number; got {value!r}.") from None
        elif isinstance(wanted, type) and type(value) is not wanted:
            raise InputError(f"{where}: {key} must be {wanted.__name__}; got {value!r}.")
        else:
            values[key] = value
    return kind(**values)

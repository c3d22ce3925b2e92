"""Configs are frozen dataclasses; here they come back from the JSON they were saved as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ami_agent.errors import ArtefactError, nearest

T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass of `kind` from JSON values; fields that are missing keep their defaults.

    Raises:
        ArtefactError: `values` is no object, or has a field that `kind` does not know.
    """
    if not isinstance(values, Mapping):
        raise ArtefactError(f"{kind.__name__}: an object expected, {values!r} came")
    types, names = get_type_hints(kind), [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            near = nearest(name, names)
            raise ArtefactError(f"{kind.__name__} has no field {name!r}" + (f"; nearest: {near[0]}" if near else ""))
    return kind(**{name: _value(types[name], value) for name, value in values.items()})


def flags(config: Any, usual: Any, prefix: str = "") -> list[str]:
    """The words of a command that change the dataclass `usual` to `config`, as `--study.ratio 1` or `--no-reward`."""
    words = []
    for name in (field.name for field in fields(config)):
        value, other, flag = getattr(config, name), getattr(usual, name), f"{prefix}{name}".replace("_", "-")
        if is_dataclass(value):
            words += flags(value, other, f"{prefix}{name}.")
        elif value != other:
            words += [f"--{flag}", str(value)] if not isinstance(value, bool) else [_switch(flag, value)]
    return words


def _switch(flag: str, on: bool) -> str:
    """As tyro names them: `--no-reward`, `--ways.no-use`."""
    group, dot, name = flag.rpartition(".")
    return f"--{flag}" if on else f"--{group}{dot}no-{name}"


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return build(kind, value)  # type: ignore[arg-type, type-var]
    if get_origin(kind) is dict and isinstance(value, Mapping):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    if isinstance(value, str) and Path in (kind, *get_args(kind)):
        return Path(value)
    if kind in (int, float, str, bool) and not isinstance(value, (int, float) if kind is float else kind):
        raise ArtefactError(f"{value!r} where a value of type {kind.__name__} belongs")
    return tuple(value) if isinstance(value, list) else value

"""Frozen dataclasses to plain JSON values and back, without loss.

Knows what the seams are made of: nested dataclasses, string enums, tuples of one item type,
`X | None` and the JSON scalars. A field that is absent in stored JSON gets its default, so that a
field may be added to a dataclass without a migration.
"""

from __future__ import annotations

import enum
import functools
import math
import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: object) -> Any:
    """The JSON value (dict, list, str, int, float, bool, None) that stands for `value`."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no nan or inf; `from_plain` reads "nan" and "inf" back
    return value


def from_plain(kind: type[T], plain: Any) -> T:
    """The value of type `kind` that `to_plain` turned into `plain`.

    Raises TypeError where a field without default is missing, ValueError for a bad enum value.
    """
    return cast(T, _read(kind, plain))


def _read(kind: Any, plain: Any) -> Any:
    origin = get_origin(kind)
    if origin is types.UnionType:
        return None if plain is None else _read(_only_type(kind), plain)
    if origin is tuple:
        return tuple(_read(get_args(kind)[0], item) for item in plain)
    if is_dataclass(kind):
        return _read_dataclass(cast(type, kind), plain)
    if kind is float:
        return float(plain)
    return kind(plain) if issubclass(kind, enum.Enum) else plain


def _read_dataclass(kind: type, plain: dict[str, Any]) -> Any:
    hints = _hints(kind)
    known = {name: _read(hints[name], value) for name, value in plain.items() if name in hints}
    return kind(**known)


def _only_type(union: Any) -> Any:
    """X of `X | None`."""
    (kind,) = (arm for arm in get_args(union) if arm is not types.NoneType)
    return kind


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)

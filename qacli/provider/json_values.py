"""Read values of JSON that may have another type than the API says."""

from collections.abc import Mapping
from typing import Any


def as_dict(value: object) -> dict[str, Any]:
    """Return an object as it is, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return a list as it is, and an empty one for any other value."""
    return value if isinstance(value, list) else []


def to_list(value: object) -> list[Any]:
    """Return a list as it is, an empty one for None, and one with the value for any other."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an object that are not null."""
    return {name: value for name, value in values.items() if value is not None}

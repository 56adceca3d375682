"""Compare answers to one question: as texts, or field by field if all are JSON objects."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qacli.json_schema import extract_json

MISSING = object()
"""The value of a field that an answer does not have; null is another value."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of two or more answers.

    Attributes:
        is_same: All answers are equal: their texts without blanks around them, or their JSON.
        fields: The fields of the answers if all are JSON objects, with whether all have the same
            value; empty otherwise.
    """

    is_same: bool
    fields: dict[str, bool]

    @property
    def share(self) -> float:
        """The share of equal fields; of other answers 1 or 0."""
        if not self.fields:
            return float(self.is_same)
        return sum(self.fields.values()) / len(self.fields)

    @property
    def different(self) -> list[str]:
        """The fields whose values differ."""
        return [name for name, is_same in self.fields.items() if not is_same]

    @classmethod
    def of(cls, answers: Sequence[str]) -> "Agreement":
        """Return the agreement of these answers."""
        values = [_json_value(answer) for answer in answers]
        objects = [value for value in values if isinstance(value, dict)]
        if len(objects) == len(answers):
            names = dict.fromkeys(name for value in objects for name in value)
            fields = {
                name: _are_equal([value.get(name, MISSING) for value in objects]) for name in names
            }
            return cls(all(fields.values()), fields)
        if all(isinstance(value, list) for value in values):
            return cls(_are_equal(values), {})
        return cls(len({answer.strip() for answer in answers}) == 1, {})


def _json_value(answer: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON of an answer; None if it is not JSON."""
    try:
        return json.loads(extract_json(answer))
    except (ValueError, RecursionError):
        return None


def _are_equal(values: Sequence[Any]) -> bool:
    """Return whether JSON values are equal: 1 is 1.0, but not true."""
    first, *others = map(_comparable, values)
    return all(value == first for value in others)


def _comparable(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items()}
    return value

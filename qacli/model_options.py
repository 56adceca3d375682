"""The options of a question that go to the model: their names, their checks, how they are merged.

They are the fields of a request, by their names in the Chat Completions API. Those with an option
of their own are in `OPTION_NAMES`; any other is written as NAME=VALUE.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from qacli.errors import InvalidRequest
from qacli.validation import MAX_ID, is_number_between

OPTION_NAMES = (
    *("temperature", "max_tokens", "top_p", "seed", "stop", "reasoning_effort", "verbosity"),
)
"""The options with a flag, a field and a column of their own."""

RESERVED = {
    "model": "Name the model with --model.",
    "messages": "The question is an argument, and the system prompt is --system.",
    "stream": "qa streams by itself; qa ask --no-stream asks for the answer in one piece.",
    "stream_options": "qa sets it where it streams.",
    "n": "qa asks for one answer; ask again for another.",
    "response_format": "Give the schema with --schema.",
}
"""The fields that qa sets itself, with the way to set each."""

RANGES = {
    "temperature": (0, 2, "The temperature", "Give a number from 0 to 2."),
    "max_tokens": (1, MAX_ID, "The token limit", "Give a whole number above 0."),
    "top_p": (0, 1, "The value of top_p", "Give a number from 0 to 1."),
    "seed": (-MAX_ID, MAX_ID, "The seed", "Give a whole number."),
}


def flag_of(name: str) -> str:
    """Return the way in which an option is written on the command line."""
    if name == "tools":
        return "--tool"
    return f"--{name.replace('_', '-')}" if name in OPTION_NAMES else f"--option {name}"


def check_params(params: Mapping[str, Any]) -> None:
    """Check the values of the options that have a range; the provider checks all others.

    Raises:
        InvalidRequest: A number is out of its range.
    """
    for name, (minimum, maximum, label, todo) in RANGES.items():
        value = params.get(name)
        if value is not None and not is_number_between(value, minimum, maximum):
            raise InvalidRequest(f"{label} {value} is out of range.", todo)


def check_names(options: Mapping[str, Any]) -> None:
    """Check that options are JSON and have none of the names that qa sets itself.

    Raises:
        InvalidRequest: A value is not JSON, or a name is reserved; the error has the right way to
            set it.
    """
    for name, value in options.items():
        if name in RESERVED:
            raise InvalidRequest(f"{name} cannot be set as an option.", RESERVED[name])
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise InvalidRequest(
                f"The option {name} has a value that is not JSON.", "Give text, numbers or objects."
            ) from None


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """Parse options as NAME=VALUE; a VALUE is JSON if it can be, else text.

    A NAME with dots makes nested objects: `provider.order=["groq"]`.

    Raises:
        InvalidRequest: A text has no `=` or no name, or a name is reserved or used in two ways.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        *parents, last = name.split(".")
        if not equals or not all((*parents, last)):
            raise InvalidRequest(f"--option {text} is not NAME=VALUE.", "Use: --option top_k=40")
        target = options
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InvalidRequest(
                    f"--option {name} needs an object, but {parent} has another value.",
                    "Give it once, as JSON.",
                )
        target[last] = parse_value(value)
    check_names(options)
    return options


def merge_params(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge options; the first layer has the highest precedence, and None means no value."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        for name, value in layer.items():
            old = merged.get(name)
            if isinstance(old, dict) and isinstance(value, dict) and name != "response_format":
                merged[name] = merge_params(value, old)
            elif value is not None:
                merged[name] = value
    return merged


def parse_value(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return a text as JSON if it can be parsed, else as it is."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(name)

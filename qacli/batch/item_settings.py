"""The settings that a line of JSON has for its own question, in addition to the text."""

import json
from collections.abc import Mapping
from typing import Any

from qacli.errors import InvalidRequest
from qacli.json_schema import checked_schema, response_format
from qacli.model_options import OPTION_NAMES, RESERVED, check_names, merge_params
from qacli.tools import with_tools
from qacli.validation import validate_tag

SETTINGS = ("system", "model", *OPTION_NAMES, "options", "schema", "tags")
"""The fields of an object that are settings by their names in qa."""

REQUEST_FIELDS = (
    *("tools", "tool_choice", "parallel_tool_calls", "logprobs", "top_logprobs", "logit_bias"),
    *("presence_penalty", "frequency_penalty", "max_completion_tokens", "service_tier"),
)
"""The fields of a Chat Completions request that are sent with the question as they are."""

TEXTS = frozenset({"system", "model", "reasoning_effort", "verbosity"})
INTEGERS = frozenset({"max_tokens", "seed"})
COLUMN_ADVICE = (
    "If it is a column and no setting, use --column question: then every field is text, and is in "
    "the results."
)


def own_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a row has for its own question: `system`, `params` and `tags`.

    Raises:
        InvalidRequest: A setting has a value that it cannot have, or qa cannot send it.
    """
    values = {
        name: row[name] for name in (*SETTINGS, *REQUEST_FIELDS) if row.get(name) not in (None, "")
    }
    _refuse_reserved(row)
    params = _own_params(values)
    if "schema" in values:
        params["response_format"] = response_format(values["schema"])
        # Refuse an unusable schema before any question is sent.
        checked_schema(json.dumps(params["response_format"]["json_schema"]["schema"]))
    settings: dict[str, Any] = {"params": params} if params else {}
    if "system" in values:
        settings["system"] = _text("system", values["system"])
    if "tags" in values:
        tags = values["tags"]
        settings["tags"] = [_text("tags", tag) for tag in _as_list(tags)]
        for tag in settings["tags"]:
            validate_tag(tag)
    return settings


def _refuse_reserved(row: Mapping[str, Any]) -> None:
    """Refuse the fields of a request that qa sets itself, unless they have qa's own values.

    Raises:
        InvalidRequest: There is such a field; the error names it.
    """
    for name, normal in (("n", (None, 1)), ("stream", (None, False)), ("response_format", (None,))):
        if name in row and row[name] not in normal:
            raise InvalidRequest(
                f"the field {name!r} cannot be set.", f"{RESERVED[name]} {COLUMN_ADVICE}"
            )


def _own_params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model and its options from the settings of an object."""
    params: dict[str, Any] = {}
    for name in ("model", *OPTION_NAMES):
        if name not in values:
            continue
        value = values[name]
        if name in TEXTS:
            params[name] = _text(name, value)
        elif name == "stop":
            params[name] = [_text(name, text) for text in _as_list(value)]
        else:
            params[name] = _number(name, value)
    options = values.get("options", {})
    if not isinstance(options, dict):
        raise InvalidRequest("its options are not an object.", COLUMN_ADVICE)
    check_names(options)
    sent = {name: values[name] for name in REQUEST_FIELDS if name in values}
    return merge_params(params, with_tools({**sent, **options}))


def _text(name: str, value: object) -> str:
    if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return str(value)
    raise InvalidRequest(f"its field {name!r} is {kind_of(value)}, not text.", COLUMN_ADVICE)


def _number(name: str, value: object) -> float:
    """Return a number, also of its text; a whole number where the option has one."""
    is_whole = name in INTEGERS
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            number = int(value) if is_whole else float(value)
        except (ValueError, OverflowError):
            number = None
        if number is not None and (isinstance(value, str) or number == value):
            return number
    raise InvalidRequest(f"{name} is not a {'whole ' * is_whole}number.", COLUMN_ADVICE)


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def kind_of(value: object) -> str:
    """Return the kind of a JSON value for a message, such as `a list`."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "no text"

"""Read JSON schemas of answers, and check answers against them.

Every answer is checked here too, because not every endpoint enforces a schema. After an answer that
does not fit, the model is asked once more: see `qacli.schema_repair`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qacli.errors import InvalidRequest, UnfitAnswer
from qacli.json_schema_limits import MAX_STEPS, SchemaCost, depth_of
from qacli.validation import sanitize_text

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
HINT = "Give a file, or fields such as 'name, age int, bio'; types are str, int, float and bool."
MAX_BACKTRACKS = 10_000
"""Backtracking steps of a pattern with look-around or back-references; others never backtrack."""

MAX_PATTERN_BYTES = 1_000_000
"""The memory of one compiled pattern."""

FENCE = re.compile(r"```[\w-]*\s*")
"""The first line of a fenced block of code."""


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A valid JSON schema that can check answers.

    The time of a check is limited for every schema and answer, because both may come from an HTTP
    client. No other document is fetched.

    Raises:
        InvalidRequest: It is not a JSON schema, refers to a schema outside of itself, or takes too
            long to check.
    """

    schema: dict[str, Any]
    _validator: "Validator" = field(init=False, repr=False, compare=False)
    _cost: SchemaCost = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from jsonschema_rs import (
            FancyRegexOptions,
            ReferencingError,
            ValidationError,
            validator_for,
        )

        patterns = FancyRegexOptions(backtrack_limit=MAX_BACKTRACKS, size_limit=MAX_PATTERN_BYTES)
        try:
            json.dumps(self.schema, allow_nan=False, ensure_ascii=False).encode()
            cost = SchemaCost(self.schema)
            validator = validator_for(
                self.schema, validate_formats=True, pattern_options=patterns, offline=True
            )
        except ValidationError as error:
            place = f" at {_json_path(error.instance_path)}" if error.instance_path else ""
            raise InvalidRequest(
                f"The schema is not a JSON schema: {_shorten(error.message)}{place}.",
                "Correct it.",
            ) from None
        except RecursionError:
            raise InvalidRequest("The schema is nested too deeply.", "Make it flatter.") from None
        except (ValueError, ReferencingError) as error:
            raise InvalidRequest(f"The schema cannot be used: {error}.", "Correct it.") from None
        object.__setattr__(self, "_validator", validator)
        object.__setattr__(self, "_cost", cost)

    @classmethod
    def from_document(cls, source: str | dict[str, Any], directory: Path | None = None) -> Self:
        """Return the schema from a file, from JSON, or from the shorthand.

        Args:
            source: A path, a JSON object, or fields such as `name, age int`.
            directory: The base of a relative path; None means the working directory.

        Raises:
            InvalidRequest: The source has another form, or is not a usable schema.
        """
        if isinstance(source, dict):
            return cls(source)
        if source.lstrip().startswith("{"):
            return cls(_object(source, "The schema"))
        if not source.strip():
            return cls(schema_from_shorthand(source))
        path = (directory or Path()) / source
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise InvalidRequest(f"The schema {source} is not UTF-8 text.", HINT) from None
            return cls(schema_from_shorthand(source))
        except OSError as error:
            # A list of many fields can be longer than the name of a file.
            if "," in source:
                return cls(schema_from_shorthand(source))
            raise InvalidRequest(
                f"The schema {source} cannot be read: {error.strerror}.", HINT
            ) from None
        return cls(_object(text, f"The schema {source}"))

    @property
    def response_format(self) -> dict[str, Any]:
        """Return the schema as the `response_format` of Chat Completions."""
        return response_format(self.schema)

    def check(self, answer: str) -> None:
        """Check that an answer fits the schema.

        Raises:
            UnfitAnswer: The answer is not JSON or does not fit; the message has the place and the
                reason. The error is fatal if the check takes too long, because another answer would
                take as long.
        """
        text = extract_json(answer)
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _schema_error(f"it is not JSON ({error})") from None
        try:
            if self._cost.visits(depth_of(value)) * len(text) > MAX_STEPS:
                raise UnfitAnswer(
                    "The answer does not fit the schema: the check takes too long.",
                    "Make the schema simpler.",
                    fatal=True,
                )
            violation = next(self._validator.iter_errors(value), None)
        except (ValueError, RecursionError) as unusable:  # a lone surrogate, for example
            raise _schema_error(f"it cannot be checked ({_shorten(str(unusable))})") from None
        if violation is not None:
            closest = _closest(violation)
            place = _shorten(_json_path(closest.instance_path))
            raise _schema_error(f"{_shorten(closest.message)} at {place}")


def _closest(error: "ValidationError") -> "ValidationError":
    """Return the error in the only alternative of `anyOf` or `oneOf` with the right type."""
    while True:
        branches: list[list[ValidationError]] = getattr(error.kind, "context", [])
        of_type = [
            branch
            for branch in branches
            if branch
            and not any(
                e.kind.name == "type" and e.instance_path == error.instance_path for e in branch
            )
        ]
        if len(of_type) != 1:
            return error
        [[error, *_]] = of_type


def _json_path(path: Sequence[str | int]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def response_format(schema: object) -> dict[str, Any]:
    """Return a JSON schema as the `response_format` of Chat Completions.

    Raises:
        InvalidRequest: The schema is not a JSON object.
    """
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise InvalidRequest("its schema is not a JSON object.")
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def extract_json(answer: str) -> str:
    """Return the JSON of an answer: the content of a fenced block if that is all there is."""
    text = answer.strip()
    first, newline, rest = text.partition("\n")
    is_fenced = newline and FENCE.fullmatch(first) and rest.endswith("```")
    return rest.removesuffix("```").strip() if is_fenced else text


def validation_error(params: Mapping[str, Any], answer: str) -> UnfitAnswer | None:
    """Return the reason why an answer does not fit the schema in a question's params, or None.

    It is also None without a schema, and for request lines of OpenAI's Batch API, whose answers are
    written unchanged.
    """
    if "response_format" not in params or "messages" in params:
        return None
    schema = params["response_format"]["json_schema"]["schema"]
    try:
        checked_schema(json.dumps(schema)).check(answer)
    except UnfitAnswer as error:
        return error
    except InvalidRequest:
        return None  # an item of an older version, whose schema the provider accepted
    return None


@lru_cache(maxsize=64)
def checked_schema(schema: str) -> AnswerSchema:
    """Return a schema from JSON; cached, because many items of a batch have the same schema.

    Raises:
        InvalidRequest: The text is not a usable JSON schema.
    """
    return AnswerSchema(_object(schema, "The schema"))


def schema_from_shorthand(fields: str) -> dict[str, Any]:
    """Return the schema of a list of fields such as `name, age int`.

    Raises:
        InvalidRequest: The text is not a list of fields.
    """
    properties: dict[str, dict[str, str]] = {}
    for text in fields.split(","):
        name, *rest = text.split() or [""]
        kind = rest[0] if rest else "str"
        if not re.fullmatch(r"[^\W\d][\w-]*", name) or len(rest) > 1 or kind not in TYPES:
            raise InvalidRequest(
                f"The schema {fields!r} is neither a file nor a list of fields: "
                f"{text.strip()!r} is not a field.",
                HINT,
            )
        if name in properties:
            raise InvalidRequest(f"The schema has {name!r} twice.", "Name each field once.")
        properties[name] = {"type": TYPES[kind]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name} is not JSON: {error}.", HINT) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} is not a JSON object.", HINT)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _schema_error(reason: str) -> UnfitAnswer:
    return UnfitAnswer(
        f"The answer does not fit the schema: {reason}.",
        "Ask again, ask a more capable model, or loosen the schema.",
    )


def _shorten(text: str, length: int = 300) -> str:
    """Return a message in one line, shortened in the middle: it can quote a whole answer."""
    text = sanitize_text(" ".join(text.split()))
    return text if len(text) <= length else f"{text[: length // 2]} … {text[-length // 2 :]}"

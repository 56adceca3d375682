"""Answers that are JSON of a shape that was asked for.

The provider is sent a JSON schema, and its answer is validated all the same: not every endpoint
keeps to one. An answer that does not fit is told so once, and what is wrong with it.
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
"""Steps back in a pattern with look-around or back-references; others never step back."""

MAX_PATTERN_BYTES = 1_000_000
"""Memory of one compiled pattern."""

FENCE = re.compile(r"```[\w-]*\s*")
"""The first line of a fenced block of code."""


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A JSON schema, checked, and ready to check answers.

    A check ends soon, whatever the schema and the answer are: both may come from an HTTP client.
    Nothing is fetched for it.

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
    def from_document(cls, given: str | dict[str, Any], directory: Path | None = None) -> Self:
        """The schema in a file, in JSON, or as the short form says it.

        Args:
            given: A path, a JSON object, or fields such as `name, age int`.
            directory: What a path is relative to; the working directory where None.

        Raises:
            InvalidRequest: It is none of these.
        """
        if isinstance(given, dict):
            return cls(given)
        if given.lstrip().startswith("{"):
            return cls(_object(given, "The schema"))
        if not given.strip():
            return cls.from_shorthand(given)
        path = (directory or Path()) / given
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise InvalidRequest(f"The schema {given} is not UTF-8 text.", HINT) from None
            return cls.from_shorthand(given)
        except OSError as error:
            # The names of many fields can be longer than a file's may be.
            if "," in given:
                return cls.from_shorthand(given)
            raise InvalidRequest(
                f"The schema {given} cannot be read: {error.strerror}.", HINT
            ) from None
        return cls(_object(text, f"The schema {given}"))

    @classmethod
    def from_shorthand(cls, given: str) -> Self:
        """The schema as the short form says it, and nothing else: no file is looked for.

        Raises:
            InvalidRequest: It is not a list of fields.
        """
        return cls(schema_from_shorthand(given))

    @property
    def response_format(self) -> dict[str, Any]:
        """It as Chat Completions wants it."""
        return response_format(self.schema)

    def check(self, answer: str) -> None:
        """Check that an answer fits.

        Raises:
            UnfitAnswer: It is not JSON, or does not fit; its text names the place and the reason.
                It is fatal where the check would take too long: another answer changes nothing.
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
            first = next(self._validator.iter_errors(value), None)
        except (ValueError, RecursionError) as unusable:  # a lone surrogate, for example
            raise _schema_error(f"it cannot be checked ({_shorten(str(unusable))})") from None
        if first is not None:
            closest = _closest(first)
            place = _shorten(_json_path(closest.instance_path))
            raise _schema_error(f"{_shorten(closest.message)} at {place}")


def _closest(error: "ValidationError") -> "ValidationError":
    """Return the error in the one alternative of `anyOf` or `oneOf` that has the right type."""
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
    """A JSON schema as Chat Completions wants it.

    Raises:
        InvalidRequest: It is not a JSON object.
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
    """Why an answer does not fit the schema in a question's params, where there is one.

    Not for the request lines of OpenAI's Batch API: they go out and come back as they are.
    """
    if "response_format" not in params or "messages" in params:
        return None
    schema = params["response_format"]["json_schema"]["schema"]
    try:
        checked_schema(json.dumps(schema)).check(answer)
    except UnfitAnswer as error:
        return error
    except InvalidRequest:
        return None  # the provider took it for a schema; such items are refused by now
    return None


@lru_cache(maxsize=64)
def checked_schema(schema: str) -> AnswerSchema:
    """A schema in JSON, made ready once: many items of a batch have the same.

    Raises:
        InvalidRequest: It is no JSON schema.
    """
    return AnswerSchema(_object(schema, "The schema"))


def repair_prompt(error: UnfitAnswer) -> str:
    """What is asked after an answer that does not fit."""
    return f"{error.what} Answer again, with nothing but JSON that fits the schema."


def schema_from_shorthand(given: str) -> dict[str, Any]:
    """The schema that a list of fields stands for; it is always a good one.

    Raises:
        InvalidRequest: It is not a list of fields.
    """
    properties: dict[str, dict[str, str]] = {}
    for text in given.split(","):
        name, *rest = text.split() or [""]
        kind = rest[0] if rest else "str"
        if not re.fullmatch(r"[^\W\d][\w-]*", name) or len(rest) > 1 or kind not in TYPES:
            raise InvalidRequest(
                f"The schema {given!r} is neither a file nor a list of fields: "
                f"{text.strip()!r} is none.",
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


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} is not JSON: {error}.", HINT) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} is not a JSON object.", HINT)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def is_repairable(error: BaseException, finish_reason: str | None) -> bool:
    """Return whether an answer that ended in this error may be asked for once more.

    A check that took too long would take as long again, and an answer that was cut at the token
    limit would be cut again.
    """
    return isinstance(error, UnfitAnswer) and not error.fatal and finish_reason != "length"


def _schema_error(why: str) -> UnfitAnswer:
    return UnfitAnswer(
        f"The answer does not fit the schema: {why}.",
        "Ask again, ask a more capable model, or loosen the schema.",
    )


def _shorten(text: str, length: int = 300) -> str:
    """Such messages quote what is wrong, which can be all of the answer."""
    text = sanitize_text(" ".join(text.split()))
    return text if len(text) <= length else f"{text[: length // 2]} … {text[-length // 2 :]}"

"""Answers that are JSON of a shape that was asked for.

The provider is sent a JSON schema, and its answer is validated all the same: not every endpoint
keeps to one. An answer that does not fit is told so once, and what is wrong with it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qacli.errors import InvalidRequest, UnfitAnswer
from qacli.validation import sanitize_text

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
HINT = "Give a file, or fields such as 'name, age int, bio'; types are str, int, float and bool."
FENCE = re.compile(r"\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A JSON schema, checked, and ready to check answers.

    Raises:
        InvalidRequest: It is no JSON schema, or refers to what is not in it.
    """

    schema: dict[str, Any]
    _validator: "Validator" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry

        kind = validator_for(self.schema, default=Draft202012Validator)
        try:
            # The formats of a schema are those of its parts: whether a pattern is one, say.
            kind.check_schema(self.schema, format_checker=kind.FORMAT_CHECKER)
        except SchemaError as error:
            raise InvalidRequest(
                f"The schema is not a JSON schema: {error.message} at {error.json_path}.",
                "Correct it.",
            ) from None
        except RecursionError:
            raise InvalidRequest("The schema is nested too deeply.", "Make it flatter.") from None
        self._refuse_far_references()
        # An empty registry: whatever a schema refers to, nothing is fetched.
        validator = kind(self.schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
        object.__setattr__(self, "_validator", validator)

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
        """See that an answer fits.

        Raises:
            UnfitAnswer: It is no JSON, or does not fit; says where and why.
        """
        from jsonschema.exceptions import best_match

        try:
            value = json.loads(extract_json(answer), parse_constant=_no_constant)
            error = best_match(self._validator.iter_errors(value))
        except (ValueError, RecursionError) as unreadable:
            raise _schema_error(f"it is not JSON ({unreadable})") from None
        except Exception as fault:  # noqa: BLE001 - a reference to what is no schema, say
            # Whatever it is, an answer that came must be kept.
            raise _schema_error(f"the schema cannot be used ({type(fault).__name__})") from None
        if error is not None:
            raise _schema_error(f"{_shorten(error.message)} at {_shorten(error.json_path)}")

    def _refuse_far_references(self) -> None:
        references = dict.fromkeys(_references(self.schema))
        if not references:
            return
        from referencing import Registry
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        whole = DRAFT202012.create_resource(self.schema)
        name = whole.id() or ""
        # Once: a schema can have thousands of references.
        registry: Registry[Any] = Registry().with_resource(name, whole).crawl()
        resolver = registry.resolver(base_uri=name)
        for reference in references:
            try:
                resolver.lookup(reference)
            except Unresolvable:
                raise InvalidRequest(
                    f"The schema refers to {reference}, which is not in it.",
                    "Put it into the schema's $defs.",
                ) from None


def _references(part: object) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _references(each)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name in {"$ref", "$dynamicRef"} and isinstance(value, str):
                yield value
            yield from _references(value)


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
    """The JSON of an answer: all of it, or what stands in the one code block that it is."""
    fenced = FENCE.fullmatch(answer)
    return (fenced[1] if fenced else answer).strip()


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

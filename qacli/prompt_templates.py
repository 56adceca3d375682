"""Prompt templates: TOML files in the directory `templates` next to the configuration file.

A template has a question with {placeholders}, a system prompt, a model with its options and a
schema; `qa ask -t review < diff` uses the one in `review.toml`. A batch uses `Pattern`, the text
with placeholders, for its questions too.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from qacli.config.file import parse_toml
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest, NotConfigured
from qacli.model_options import OPTION_NAMES, check_names, check_params, merge_params
from qacli.tools import with_tools

OPTIONS = "options"
"""The field with the options that have no field of their own."""

INPUT = "input"
"""The placeholder for the arguments and standard input."""

STARTER = """\
# qa ask -t {name} [QUESTION], or with standard input. All lines are optional.
# system = "You review code. Be brief."
question = "{{input}}"        # {{input}}: the arguments or standard input; {{other}}: -p other=...
# model = "gpt-6-luna"
# temperature = 0.2
# max_tokens = 1000
# reasoning_effort = "low"     # also verbosity, top_p, seed and stop
# tools = ["web_search"]       # tools that the provider runs
# options = {{ top_k = 40 }}     # any other field of the request
# schema = "title, severity int, fix"
"""


BRACES = re.compile(r"\{\{|\}\}|[{}]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with {placeholders}; {{ and }} are literal braces.

    A name can have any character. Braces in it match each other; any other name with braces, or one
    that begins with a quote, is written as a JSON text: `{"a } b"}`.

    Attributes:
        pieces: Pairs of literal text and the name of the placeholder after it, or None.
    """

    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text.

        Raises:
            InvalidRequest: The braces do not match.
        """
        pieces: list[tuple[str, str | None]] = []
        literal, end = "", 0
        while brace := BRACES.search(text, end):
            literal += text[end : brace.start()]
            end = brace.end()
            if brace[0] == "{":
                name, end = _placeholder(text, end)
                pieces.append((literal, name))
                literal = ""
            elif brace[0] == "}":
                raise _invalid_braces("a } has no { before it")
            else:
                literal += brace[0][0]
        if rest := literal + text[end:]:
            pieces.append((rest, None))
        return cls(tuple(pieces))

    @property
    def names(self) -> list[str]:
        """The placeholders in the order of their first occurrence."""
        return list(dict.fromkeys(name for _, name in self.pieces if name is not None))

    def fill(self, value: Callable[[str], str]) -> str:
        """Return the text with each placeholder replaced by its value."""
        texts = ((text, "" if name is None else value(name)) for text, name in self.pieces)
        return "".join(part for pair in texts for part in pair)


def _placeholder(text: str, start: int) -> tuple[str, int]:
    """Return the name of the placeholder that begins here, and the place after its brace.

    Raises:
        InvalidRequest: The placeholder has no end.
    """
    if text[start : start + 1] == '"':
        try:
            name, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            name, end = "", start
        if text[end : end + 1] == "}":
            return str(name), end + 1
        raise _invalid_braces(
            "a { is followed by a quote, but not by a name in quotes and a }",
            "For literal braces, write {{ and }}.",
        )
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[start : brace.start()], brace.end()
    raise _invalid_braces("a { has no } after it")


def _invalid_braces(reason: str, todo: str = "Write {{ for a literal brace.") -> InvalidRequest:
    return InvalidRequest(f"Invalid template: {reason}.", todo)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A template; the default, without a name, changes nothing.

    Attributes:
        params: The options that go to the model; see `qacli.model_options`.
        schema: A text as for --schema, or a JSON schema.
    """

    name: str = ""
    system: str | None = None
    question: str | None = None
    model: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    schema: str | dict[str, Any] | None = None

    def placeholders(self) -> list[str]:
        """Return the names of all placeholders, including `input`."""
        texts = [text for text in (self.question, self.system) if text is not None]
        names = [name for text in texts for name in Pattern.parse(text).names]
        return list(dict.fromkeys(names))

    def fill(self, text: str, parameters: Mapping[str, str]) -> tuple[str, str | None]:
        """Return the question and the system prompt.

        Args:
            text: The arguments and standard input; appended to a question without {input}.
            parameters: The values of the other placeholders.

        Raises:
            InvalidRequest: A placeholder has no value, or a value has no placeholder.
        """
        names = self.placeholders()
        for name in parameters:
            if name == INPUT or name not in names:
                others = ", ".join(other for other in names if other != INPUT)
                raise InvalidRequest(
                    f"The template {self.name!r} has no placeholder {name!r} for -p.",
                    f"Its placeholders are {others}." if others else "It has no placeholders.",
                )

        def value(name: str) -> str:
            if name == INPUT and text.strip():
                return text
            if name in parameters:
                return parameters[name]
            raise self._missing_value(name)

        question = text
        if self.question is not None:
            pattern = Pattern.parse(self.question)
            question = pattern.fill(value)
            if text.strip() and INPUT not in names:
                question = f"{question}\n\n{text}"
        system = None if self.system is None else Pattern.parse(self.system).fill(value)
        return question, system

    def to_dict(self) -> dict[str, Any]:
        """Return the template as a JSON object."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        own = {name: values["params"].get(name) for name in ("temperature", "max_tokens")}
        return {**values, **own, "placeholders": self.placeholders()}

    def _missing_value(self, name: str) -> InvalidRequest:
        what = f"The placeholder {{{name}}} of the template {self.name!r} has no value."
        if name == INPUT:
            return InvalidRequest(what, "Give a question as an argument or on standard input.")
        if re.fullmatch(r"\w[\w-]*", name):
            return InvalidRequest(what, f"Add: -p {name}=...")
        return InvalidRequest(what, "For literal braces, write {{ and }}.")


def template_path(settings: Settings, name: str) -> Path:
    """Return the path of the template with this name, which may not exist.

    Raises:
        InvalidRequest: The name is not valid.
    """
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise InvalidRequest(
            f"Invalid template name {name!r}.", "Use letters, digits, dots, - and _."
        )
    return settings.templates_path / f"{name}.toml"


def read_text(settings: Settings, name: str) -> str:
    """Return the text of a template's file.

    Raises:
        InvalidRequest: There is no template with this name.
        NotConfigured: The file cannot be read.
    """
    path = template_path(settings, name)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        names = ", ".join(settings.template_names())
        raise InvalidRequest(
            f"There is no template {name!r}.",
            f"The templates are {names}." if names else f"Create it: qa template edit {name}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid_template(path, f"cannot be read: {error}") from None


def load_template(settings: Settings, name: str) -> PromptTemplate:
    """Load the template with this name.

    Raises:
        InvalidRequest: There is no template with this name.
        NotConfigured: The file is not a valid template; the error has its path and the reason.
    """
    path = template_path(settings, name)
    try:
        values = parse_toml(read_text(settings, name))
    except (ValueError, RecursionError) as error:
        raise _invalid_template(path, f"is not TOML: {error}") from None
    for key, value in values.items():
        if key not in FIELDS:
            raise _invalid_template(path, f"sets {key}, which is not one of {', '.join(FIELDS)}")
        types, description = FIELDS[key]
        if type(value) not in types:
            raise _invalid_template(path, f"sets {key} to {value!r}, which is not {description}")
    try:
        options = values.pop(OPTIONS, {})
        check_names(options)
        named = {key: values.pop(key) for key in (*OPTION_NAMES, "tools") if key in values}
        params = with_tools(merge_params(named, options))
        check_params(params)
        template = PromptTemplate(name=name, **values, params=params)
        template.placeholders()
    except InvalidRequest as error:
        raise _invalid_template(
            path, f"cannot be used: {error.what.rstrip('.')}", error.todo
        ) from None
    return template


FIELDS: dict[str, tuple[Sequence[type], str]] = {
    "system": ((str,), "text"),
    "question": ((str,), "text"),
    "model": ((str,), "text"),
    "temperature": ((int, float), "a number"),
    "max_tokens": ((int,), "a whole number"),
    "top_p": ((int, float), "a number"),
    "seed": ((int,), "a whole number"),
    "stop": ((list,), "a list of texts"),
    "reasoning_effort": ((str,), "text"),
    "verbosity": ((str,), "text"),
    "tools": ((list,), "a list of tools"),
    OPTIONS: ((dict,), "a table"),
    "schema": ((str, dict), "text or a table"),
}
"""The fields of a template, with their types; a boolean is not a number here."""


def _invalid_template(path: Path, reason: str, todo: str = "Correct it.") -> NotConfigured:
    return NotConfigured(f"The template {path} {reason}.", todo)

"""Named templates: TOML files beside the configuration file, in its directory `templates`.

A template holds what shapes a question (its text with {placeholders}, the system prompt, the model
and its options, a schema), so that `qa ask -t review < diff` says it all. `Pattern`, the text with
placeholders, is also what a batch makes its questions of.
"""

import re
import string
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from qacli.config.loader import config_file
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest, NotConfigured

INPUT = "input"
"""The placeholder for the arguments and standard input."""

STARTER = """\
# qa ask -t {name} [QUESTION], or with standard input. Every line here may be left out.
# system = "You review code. Be brief."
question = "{{input}}"        # {{input}}: the arguments or standard input; {{other}}: -p other=...
# model = "gpt-5-mini"
# temperature = 0.2
# max_tokens = 1000
# schema = "title, severity int, fix"
"""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text with {placeholders}; {{ and }} stand for braces.

    Attributes:
        pieces: Pairs of a text as it stands and the name of the placeholder after it, if any.
    """

    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text.

        Raises:
            InvalidRequest: Its braces do not match.
        """
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise InvalidRequest(
                f"The template is not one: {error}.", "Write {{ for a brace."
            ) from None
        return cls(tuple((literal, name) for literal, name, _, _ in parsed))

    @property
    def names(self) -> list[str]:
        """The placeholders, each once, in their order."""
        return list(dict.fromkeys(name for _, name in self.pieces if name is not None))

    def fill(self, value: Callable[[str], str]) -> str:
        """The text, with the value of each placeholder in its place."""
        texts = ((text, "" if name is None else value(name)) for text, name in self.pieces)
        return "".join(part for pair in texts for part in pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A template as it was read; without a name it is none, and changes nothing.

    Attributes:
        schema: As for --schema, or the JSON schema itself as a table.
    """

    name: str = ""
    system: str | None = None
    question: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    schema: str | dict[str, Any] | None = None

    def placeholders(self) -> list[str]:
        """What is to be filled in, the input included."""
        texts = [text for text in (self.question, self.system) if text is not None]
        names = [name for text in texts for name in Pattern.parse(text).names]
        return list(dict.fromkeys(names))

    def fill(self, given: str, parameters: Mapping[str, str]) -> tuple[str, str | None]:
        """The question and the system prompt.

        Args:
            given: The arguments and standard input; put after a question without {input}.
            parameters: The other placeholders.

        Raises:
            InvalidRequest: A placeholder has no value, or a value no placeholder; names it.
        """
        known = self.placeholders()
        for name in parameters:
            if name == INPUT or name not in known:
                others = ", ".join(each for each in known if each != INPUT)
                raise InvalidRequest(
                    f"The template {self.name!r} has no placeholder {name!r} to give with -p.",
                    f"It has: {others}." if others else "It has none.",
                )

        def value(name: str) -> str:
            if name == INPUT and given.strip():
                return given
            if name in parameters:
                return parameters[name]
            raise self._missing(name)

        question = given
        if self.question is not None:
            pattern = Pattern.parse(self.question)
            question = pattern.fill(value)
            if given.strip() and INPUT not in known:
                question = f"{question}\n\n{given}"
        system = None if self.system is None else Pattern.parse(self.system).fill(value)
        return question, system

    def to_dict(self) -> dict[str, Any]:
        """It as JSON has it."""
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**shown, "placeholders": self.placeholders()}

    def _missing(self, name: str) -> InvalidRequest:
        what = f"The placeholder {{{name}}} of the template {self.name!r} has no value."
        if name == INPUT:
            return InvalidRequest(what, "Give a question as argument or on standard input.")
        if re.fullmatch(r"\w[\w-]*", name):
            return InvalidRequest(what, f"Give it one: -p {name}=...")
        return InvalidRequest(what, "If it is none, write {{ and }} for the braces.")


def template_path(settings: Settings, name: str) -> Path:
    """Where the template of that name is, whether or not there is one.

    Raises:
        InvalidRequest: No template can have that name.
    """
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise InvalidRequest(
            f"{name!r} is not a template's name.", "Use letters, digits, dots, - and _."
        )
    return templates_directory(settings) / f"{name}.toml"


def templates_directory(settings: Settings) -> Path:
    """Where the templates are: beside the configuration file."""
    return (settings.config_path or config_file({})).with_name("templates")


def template_names(settings: Settings) -> list[str]:
    """The names of all templates there are."""
    return sorted(path.stem for path in templates_directory(settings).glob("*.toml"))


def read_text(settings: Settings, name: str) -> str:
    """The file of a template, as it stands.

    Raises:
        InvalidRequest: There is none of that name.
        NotConfigured: It cannot be read.
    """
    path = template_path(settings, name)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        there = ", ".join(template_names(settings))
        raise InvalidRequest(
            f"There is no template {name!r}.",
            f"There are: {there}." if there else f"Make it: qa template edit {name}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid_template(path, f"cannot be read: {error}") from None


def load_template(settings: Settings, name: str) -> PromptTemplate:
    """The template of that name.

    Raises:
        InvalidRequest: There is none.
        NotConfigured: It is no template; says where and why.
    """
    path = template_path(settings, name)
    try:
        values = tomllib.loads(read_text(settings, name))
    except (ValueError, RecursionError) as error:
        raise _invalid_template(path, f"is not TOML: {error}") from None
    for key, value in values.items():
        if key not in KINDS:
            raise _invalid_template(path, f"sets {key}, which is not one of {', '.join(KINDS)}")
        kinds, named = KINDS[key]
        if type(value) not in kinds:
            raise _invalid_template(path, f"sets {key} to {value!r}, which is not {named}")
    template = PromptTemplate(name=name, **values)
    try:
        template.placeholders()
    except InvalidRequest as error:
        raise _invalid_template(
            path, f"cannot be used: {error.what.rstrip('.')}", error.todo
        ) from None
    return template


KINDS: dict[str, tuple[Sequence[type], str]] = {
    "system": ((str,), "text"),
    "question": ((str,), "text"),
    "model": ((str,), "text"),
    "temperature": ((int, float), "a number"),
    "max_tokens": ((int,), "a whole number"),
    "schema": ((str, dict), "text or a table"),
}
"""What a template can set, and as what; true is no number here."""


def _invalid_template(path: Path, why: str, todo: str = "Correct it.") -> NotConfigured:
    return NotConfigured(f"The template {path} {why}.", todo)

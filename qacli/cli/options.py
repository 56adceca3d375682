"""Options that several commands share, declared once."""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from qacli.model_options import merge_params, parse_options
from qacli.tools import parse_tool

Result = TypeVar("Result")


class Format(StrEnum):
    """The output format of a list of records."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Model to ask; local or local:/path.gguf runs on this machine.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Model to ask; local or local:/path.gguf runs on this machine; can be repeated to "
        "ask several models.",
    ),
]
Continue = Annotated[
    bool, typer.Option("--continue", "-c", help="Follow up the last answered record.")
]
Follow = Annotated[
    str | None,
    typer.Option("--follow", metavar="ID", help="Follow up this record: an id, last, or -2."),
]
Tags = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="Tag for the record; can be repeated.")
]
System = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        "-t",
        metavar="TEMPLATE",
        help="Name of a template for the question; see qa template.",
    ),
]
TemplateParameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="NAME=VALUE",
        help="Value for a placeholder of the template; can be repeated.",
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Do not render Markdown.")]
ShowReasoning = Annotated[
    bool | None,
    typer.Option(
        "--show-reasoning",
        help="Show all of the model's reasoning: above the answer on a terminal, else on stderr.",
    ),
]
AutoTitle = Annotated[
    bool | None,
    typer.Option(
        "--auto-title/--no-auto-title",
        help="Let the model name the thread after its first answer; qa title changes the name.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.001,
        max=1e7,
        help="Time limit for the whole answer, with retries.",
    ),
]
NoStream = Annotated[bool, typer.Option("--no-stream", help="Request the answer in one piece.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
NoPager = Annotated[bool, typer.Option("--no-pager", help="Print everything without a pager.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer and errors.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print notes to stderr even if it is not a terminal.",
    ),
]
Target = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="File for the results (default: stdout)."),
]
TargetFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="jsonl, csv, tsv, json, xlsx, parquet or openai (default: by the file's name, or "
        "jsonl).",
    ),
]
Join = Annotated[
    bool | None,
    typer.Option(
        "--join/--no-join",
        help="Begin each result with the columns of FILE (default: if both are tables).",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an output file that this batch did not write.")
]


def with_options_of(
    build: Callable[..., Any], name: str, *, without: str = ""
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Return a decorator that adds the options of a function to a command.

    Args:
        build: Its parameters are the options; it returns the value for the command.
        name: The parameter of the command that gets it, in whose place the options are listed.
        without: A parameter that is no option of the command and has its default value.
    """
    options = {key: item for key, item in signature(build).parameters.items() if key != without}

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(command)
        def with_options(**values: Any) -> Result:  # noqa: ANN401 - as Typer has parsed them
            values[name] = build(**{option: values.pop(option) for option in options})
            return command(**values)

        parameters: list[Parameter] = []
        for key, parameter in signature(command).parameters.items():
            parameters += options.values() if key == name else [parameter]
        # Typer reads these two.
        with_options.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {item.name: item.annotation for item in parameters}
        return with_options

    return decorate


def params_from_options(  # noqa: PLR0913 - one parameter an option
    *,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", help="Sampling temperature, 0 to 2; lower is more predictable."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Maximum length of the answer, in tokens.")
    ] = None,
    reasoning_effort: Annotated[
        str | None,
        typer.Option(
            metavar="EFFORT", help="How much the model reasons, such as none, low, medium or high."
        ),
    ] = None,
    verbosity: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="Length of the answer: low, medium or high."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Sample only from the most probable part, 0 to 1."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="The same seed gives similar answers, where supported."),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End the answer before this text; can be repeated."),
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Tool that the provider runs, such as web_search, or its settings as a JSON "
            "object; can be repeated.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other field of the request, as JSON or text; dots in NAME make nested "
            "objects; can be repeated.",
        ),
    ] = None,
) -> dict[str, Any]:
    """Return the options that go to the model, by their names in the request.

    Raises:
        InvalidRequest: See `qacli.model_options.parse_options` and `qacli.tools.parse_tool`.
    """
    named = {
        "temperature": temperature,
        "max_tokens": max_tokens,
        "reasoning_effort": reasoning_effort,
        "verbosity": verbosity,
        "top_p": top_p,
        "seed": seed,
        "stop": stop or None,
        "tools": [parse_tool(text) for text in tool or ()] or None,
    }
    return merge_params(named, parse_options(option or ()))


with_model_options = with_options_of(params_from_options, "params")
"""Add the options that go to the model to a command, as its parameter `params`."""

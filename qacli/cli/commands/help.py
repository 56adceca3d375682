"""`qa help TOPIC`: what is longer than an option's line."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.console import Console
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG = (
    "\b\nExamples:\n"
    "  qa help exit-codes\n"
    "  qa help configuration\n"
    "  qa help scripting\n"
    "  qa help batch run              the same as qa batch run --help"
)

EXIT_CODES = {
    0: "done",
    1: "unexpected: a mistake in qa",
    2: "usage: an option or the question cannot be used",
    3: "configuration: no model, or a key that is missing or rejected",
    4: "not found: no such record",
    5: "the provider refused the request (4xx)",
    6: "the provider is away, overloaded or timed out, or its answer is broken",
    7: "the database cannot be used",
    8: "part of a batch has no answer",
    130: "interrupted",
    141: "the reader of the output closed it",
}

PRECEDENCE = """\
A flag beats the environment, which beats .env in the working directory, which beats the chosen
profile, which beats the top of the configuration file, which beats the default. A .env file counts
only after qa config trust has shown it, and again after each change. qa config shows each setting,
its value and where it came from; qa config path, where the file is."""

SCRIPTING = """\
stdout is the answer, or the JSON, and nothing else; what else there is to say goes to stderr, and
only on a terminal unless -v says so. An error is always said, in one line that begins with "qa: ".

  answer=$(qa ask "Who am I?") || echo "no answer: $?"
  qa ask --json "Who am I?" | jq -r .id
  qa list --format jsonl --limit 0 | jq -r 'select(.status == "failed") | .question'
  qa batch questions.txt -o answers.jsonl && echo "every question is answered"

Any number of qa may run side by side on one history. What a killed one leaves, the next delivers.
A question that must not wait for standard input: qa ask "..." < /dev/null"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help", epilog=EPILOG)(show_topic)


def show_topic(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOPIC", help="exit-codes, configuration, scripting, or a command."),
    ] = None,
) -> None:
    """Explain exit-codes, configuration, scripting, or a command."""
    topics: dict[str, Callable[[], str]] = {
        "exit-codes": _exit_codes,
        "configuration": _configuration,
        "scripting": lambda: SCRIPTING,
    }
    console = Console.from_context(context)
    if not words:
        console.print("Topics: " + ", ".join(topics) + ". Commands: qa --help")
        return
    if words[0] in topics:
        console.print(topics[words[0]]())
        return
    program: Any = context.find_root().command
    if words[0] not in program.commands:
        raise InvalidRequest(
            f"There is no topic and no command {words[0]!r}.",
            f"Topics: {', '.join(topics)}. Commands: qa --help",
        )
    program.main([*words, "--help"], prog_name="qa", standalone_mode=False, obj=console)


def _exit_codes() -> str:
    return "\n".join(f"{code:>4}  {text}" for code, text in EXIT_CODES.items())


def _configuration() -> str:
    from textwrap import fill

    from qacli.config.settings import setting_fields

    parts = [PRECEDENCE]
    for item in setting_fields():
        text = item.metadata["help"].replace("`", "")
        if item.default not in {None, False}:
            default = item.default
            text += (
                f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
            )
        body = fill(text, 88, initial_indent="    ", subsequent_indent="    ")
        parts.append(f"{item.name}  ({item.metadata['env']})\n{body}")
    return "\n\n".join(parts)

"""`qa help TOPIC`: what is longer than an option's line."""

from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.terminal import Terminal
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG = "\b\nExamples:\n  qa help exit-codes\n  qa help configuration\n  qa help scripting"

EXIT_CODES = {
    0: "done",
    1: "unexpected: a mistake in qa",
    2: "usage: an option or the question cannot be used",
    3: "configuration: no model, or a key that is missing or rejected",
    4: "not found: no such record",
    5: "the provider refused the request (4xx)",
    6: "the provider is unreachable, overloaded or timed out, or its answer is broken",
    7: "the database cannot be used",
    8: "part of a batch has no answer",
    130: "interrupted",
    141: "the reader of the output closed it",
}

PRECEDENCE = """\
A flag beats the environment, which beats .env in the working directory, which beats config.toml
in the configuration directory, which beats the default. qa config shows each setting, its value
and where it came from."""

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
    topic: Annotated[
        str | None, typer.Argument(help="exit-codes, configuration or scripting.")
    ] = None,
) -> None:
    """Explain a topic: exit codes, configuration, scripting."""
    topics: dict[str, Callable[[], str]] = {
        "exit-codes": _exit_codes,
        "configuration": _configuration,
        "scripting": lambda: SCRIPTING,
    }
    terminal = Terminal.of_process()
    if topic is None:
        terminal.line("Topics: " + ", ".join(topics) + ". Commands: qa --help")
        return
    if topic not in topics:
        raise InvalidRequest(f"There is no topic {topic!r}.", f"There are {', '.join(topics)}.")
    terminal.line(topics[topic]())


def _exit_codes() -> str:
    return "\n".join(f"{code:>4}  {text}" for code, text in EXIT_CODES.items())


def _configuration() -> str:
    from textwrap import fill

    from qacli.config import setting_fields

    parts = [PRECEDENCE]
    for item in setting_fields():
        text = item.metadata["help"].replace("`", "")
        if item.default not in {None, False}:
            text += f" Default: {item.default}."
        body = fill(text, 88, initial_indent="    ", subsequent_indent="    ")
        parts.append(f"{item.name}  ({item.metadata['env']})\n{body}")
    return "\n\n".join(parts)

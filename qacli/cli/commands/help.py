"""`qa help TOPIC`: texts that are too long for `--help`; `qa help WORDS`: a search of all help."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.console import Console
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WIDTH = 88
"""Columns of the text about settings."""

EPILOG = (
    "\b\nExamples:\n"
    "  qa help exit-codes\n"
    "  qa help configuration\n"
    "  qa help scripting\n"
    "  qa help batch run              the same as qa batch run --help\n"
    "  qa help budget                 everything whose help has this word"
)

EXIT_CODES = {
    0: "done",
    1: "unexpected error: a mistake in qa",
    2: "usage error: an option or the question cannot be used",
    3: "configuration: no model, or a key that is missing or rejected",
    4: "not found: no such record",
    5: "provider refused the request (4xx)",
    6: "provider unreachable, overloaded or timed out, or its answer is broken",
    7: "database cannot be used",
    8: "some items of a batch have no answer",
    9: "a batch is not finished",
    130: "interrupted",
    141: "the reader of the output has closed it",
}

TOPICS = {
    "exit-codes": "What each exit code means.",
    "configuration": "Where a setting comes from, and what each setting does.",
    "scripting": "What a script can rely on, with examples.",
}
"""The topics, and what each explains."""

PRECEDENCE = """\
A setting can come from several sources. The first of these that sets it is used: a flag, the
environment, a trusted .env file in the working directory, the chosen profile of the configuration
file, the top of that file, the default.

A .env file is ignored until qa config trust has shown it, and again after each change. qa config
shows each setting with its value and its source. qa config path prints the path of the
configuration file."""

SCRIPTING = """\
stdout has the answer, or the JSON, and nothing else. Status messages go to stderr, and only on a
terminal, unless -v is given. Warnings, such as an answer that was cut, and the summary of a batch
always go to stderr, unless -q is given. Every error is one line on stderr that begins with "qa: ".

  answer=$(qa ask "Who am I?") || echo "no answer: $?"
  qa ask --json "Who am I?" | jq -r .id
  qa list --status failed --format jsonl --limit 0 | jq -r .question
  qa batch questions.txt -o answers.jsonl && echo "every question is answered"

Any number of qa processes can use one history at the same time. If one is killed, the next command
stores what it left. To ask without waiting for standard input: qa ask "..." < /dev/null"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help", epilog=EPILOG)(show_topic)


def show_topic(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC",
            help="exit-codes, configuration, scripting, a command, or words to search for.",
        ),
    ] = None,
) -> None:
    """Explain a topic or a command, or search the help for words."""
    from qacli.cli.help_search import is_command, search_help

    texts: tuple[Callable[[], str], ...] = (_exit_codes, _configuration, lambda: _fill(SCRIPTING))
    topics = dict(zip(TOPICS, texts, strict=True))
    console = Console.from_context(context)
    words = [word for word in words or [] if word.strip()]
    if not words:
        console.print_message("Topics: " + ", ".join(topics) + ". Commands: qa --help")
        return
    name = "-".join(words).lower()
    if name in topics:
        console.print_message(topics[name]())
        return
    program: Any = context.find_root().command
    if is_command(words):
        program.main([*words, "--help"], prog_name="qa", standalone_mode=False, obj=console)
        return
    rows = search_help(
        words,
        [(f"qa help {name}", f"{TOPICS[name]}\n{text()}") for name, text in topics.items()],
    )
    if not rows:
        raise InvalidRequest(
            f"There is no topic and no command {' '.join(words)!r}, and no help has these words.",
            f"Topics: {', '.join(topics)}. Commands: qa --help",
        )
    for name, text in rows:
        console.print_message(f"{name}\n    {text}")


def _exit_codes() -> str:
    return "\n".join(f"{code:>4}  {text}" for code, text in EXIT_CODES.items())


def _fill(text: str, indent: str = "") -> str:
    """Break the lines of paragraphs between words, as wide as the screen; keep examples."""
    from shutil import get_terminal_size

    from qacli.cli.text_width import wrap_words

    width = min(get_terminal_size().columns, MAX_WIDTH)
    return "\n\n".join(
        part if part.startswith("  ") else wrap_words(indent + " ".join(part.split()), width)
        for part in text.split("\n\n")
    )


def _configuration() -> str:
    from qacli.cli.setting_values import one_line
    from qacli.config.settings import setting_fields

    parts = [_fill(PRECEDENCE)]
    for item in setting_fields():
        text = item.help.replace("`", "")
        if item.default is not None:
            text += f" Default: {one_line(item.default)}."
        parts.append(f"{item.name}  ({item.env})\n{_fill(text, '    ')}")
    return "\n\n".join(parts)

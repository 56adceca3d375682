"""`qa compare`: the answers of records side by side, with their differences."""

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, parse_record_id
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.domain import Status
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.text import Text

    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store

EPILOG = (
    "\b\nExamples:\n"
    "  qa compare 12 15\n"
    "  qa compare last          the answers to the newest question of several models\n"
    "  qa compare 12 15 --json | jq '.[] | {model, similarity}'"
)

WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
MAX_WORDS = 5_000
"""The first words of an answer, which are compared: the time can grow with their square."""

MAX_GROUP = 50
"""Answers to one question that are shown."""

Part = tuple[str, bool]
"""A piece of a text, and whether the other text has it too."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(compare)


def compare(
    context: typer.Context,
    record_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="Ids of records, last, or -2; one id for its group."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show answers side by side, with their differences.

    Their tokens, cost and time are shown too. One id alone stands for all answers to its question:
    of qa ask -m A -m B, and of --again.
    """
    from qacli.cli.store import open_store

    console = Console.from_context(context)
    store = open_store(load_settings(console), console)
    records = _records(store, [parse_record_id(text) for text in record_ids])
    first = records[0].answer or ""
    if as_json:
        documents = [record.to_dict() for record in records]
        for document in documents:
            matcher = _matcher(first, document["answer"] or "")
            document["similarity"] = round(matcher.ratio(), 4)
        console.print_json(documents)
        return
    # The first answer is compared with the second, and each other one with the first.
    bases = [records[1].answer or "", *[first] * (len(records) - 1)]
    texts = [
        list(differences(base, record.answer or record.error or ""))
        for base, record in zip(bases, records, strict=True)
    ]
    _print(records, texts, console)


def differences(base: str, text: str) -> "Iterator[Part]":
    """Yield the pieces of a text, each with whether the base text has it at the same place.

    The text after `MAX_WORDS` words is not compared, and yielded as if it were the same.
    """
    words = WORD.findall(text)
    for operation, _, _, start, end in _matcher(base, text).get_opcodes():
        if start != end:
            yield "".join(words[start:end]), operation == "equal"
    if rest := "".join(words[MAX_WORDS:]):
        yield rest, True


def _matcher(base: str, text: str) -> SequenceMatcher[str]:
    old, new = (WORD.findall(part)[:MAX_WORDS] for part in (base, text))
    return SequenceMatcher(None, old, new, autojunk=False)


def _records(store: "Store", numbers: list[int]) -> "list[QuestionAnswer]":
    """Return the records; of one alone, all that answer the same question.

    Raises:
        NotFound: There is no such record.
        InvalidRequest: There is only one answer.
    """
    from qacli.cli.store import record_at
    from qacli.db.filters import Filter

    records = [record_at(store, number) for number in numbers]
    if len(records) == 1:
        [record] = records
        group = Filter(repeats_id=record.repeats_id or record.id)
        records = store.page(only=group, limit=MAX_GROUP)
        if len(records) < 2:  # noqa: PLR2004 - a comparison needs two
            raise InvalidRequest(
                f"Record {record.id} is the only answer to its question.",
                f"Name another record: qa compare {record.id} ID",
            )
    return records


def _print(
    records: "Sequence[QuestionAnswer]", texts: "Sequence[list[Part]]", console: Console
) -> None:
    from qacli.cli.ask_models import columns_table, fits_columns
    from qacli.cli.formatters import console_on, print_heading

    headings = [f"#{record.id} {record.model or record.params.get('model')}" for record in records]
    if not fits_columns(console, len(records)):
        for heading, record, parts in zip(headings, records, texts, strict=True):
            if record is not records[0]:
                console.print("")
            print_heading(console, heading)
            console.print(f"{_figures(record)}\n")
            if console.is_terminal:
                console_on(console.stdout).print(_marked(parts))
            else:
                console.print("".join(text for text, _ in parts))
        return
    screen = console_on(console.stdout)
    table = columns_table(headings, screen.width)
    table.add_row(*(_figures(record) for record in records), style="dim")
    table.add_row(*("" for _ in records))
    table.add_row(*(_marked(parts) for parts in texts))
    screen.print(table)


def _marked(parts: "list[Part]") -> "Text":
    """Return a text in which the pieces that the other text does not have stand out."""
    from rich.text import Text

    from qacli.sanitize import sanitize

    text = Text()
    for piece, is_common in parts:
        text.append(sanitize(piece), style=None if is_common else "bold yellow")
    return text


def _figures(record: "QuestionAnswer") -> str:
    """Return the status, time, tokens, cost and rating of a record in one line."""
    from qacli.cli.money import usd

    facts = [] if record.status == Status.ANSWERED else [record.status.value]
    if record.latency_ms is not None:
        facts.append(f"{record.latency_ms / 1000:.1f} s")
    if record.completion_tokens is not None:
        facts.append(f"{record.prompt_tokens} + {record.completion_tokens} tokens")
    if record.cost_usd is not None:
        facts.append(usd(record.cost_usd))
    if record.rating is not None:
        facts.append(f"rated {record.rating}")
    return ", ".join(facts)

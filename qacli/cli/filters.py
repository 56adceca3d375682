"""The options and arguments that select records."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.options import with_options_of
from qacli.dates import parse_when
from qacli.domain import Status, now
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.db.filters import Filter

RecordId = Annotated[
    str,
    typer.Argument(metavar="ID", help="Record id; last for the newest; -2 for the one before it."),
]

NEGATIVE_IDS = {"ignore_unknown_options": True}
"""Context settings of a command with a `RecordId`: -2 is an id, not an option."""


def parse_record_id(text: str) -> int:
    """Return the id as a number; a negative number counts from the end: -1 is the newest.

    Raises:
        InvalidRequest: The text is not an id.
    """
    if text == "last":
        return -1
    if text.startswith("--"):
        raise InvalidRequest(f"There is no option {text} here.", "--help lists the options.")
    if not re.fullmatch(r"-?[0-9]{1,4000}", text):
        raise InvalidRequest(
            f"{text!r} is not a record's id.", "Give a number as qa list shows it, or last."
        )
    return int(text)


RATINGS = {"good": 5, "bad": 1}


def parse_rating(text: str) -> int:
    """Return a rating as a number from 1 to 5.

    Raises:
        InvalidRequest: The text is not a rating.
    """
    if text in RATINGS:
        return RATINGS[text]
    if not re.fullmatch("[1-5]", text):
        raise InvalidRequest(f"{text!r} is not a rating.", "Give 1 to 5, good or bad.")
    return int(text)


def filter_from_options(  # noqa: PLR0913 - one parameter an option
    *,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="TEXT", help='Search for words and "phrases".'),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Only records asked since a date or age: 2026-11-01, 2d, 3h."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only records asked before this date or age.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Filter by model.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="HOST", help="Filter by endpoint: api.openai.com.")
    ] = None,
    status: Annotated[
        Status | None,
        typer.Option(
            metavar="STATUS",
            help="Filter by status: asking, answered, failed or interrupted.",
        ),
    ] = None,
    error: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Filter by the kind of error: provider-refused."),
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Filter by tag.")] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", help="Only records of this batch.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Filter by text in the system prompt.")
    ] = None,
    thread: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Only the thread of this record, with all branches: an id, last, or -2.",
        ),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only follow-ups of this record: an id, last, or -2."),
    ] = None,
    repeats: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Only records that ask the question of this one, and itself: an id, last, or -2.",
        ),
    ] = None,
    caller: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only records that this token asked over HTTP."),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(metavar="REQUEST", help="Only records of this HTTP request (X-Request-Id)."),
    ] = None,
    tool_call: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only answers in which the model called this tool."),
    ] = None,
    rating: Annotated[
        str | None,
        typer.Option(metavar="RATING", help="Only records with this rating: 1 to 5, good or bad."),
    ] = None,
    min_cost: Annotated[
        float | None, typer.Option(metavar="USD", help="Minimum cost in US dollars.")
    ] = None,
) -> "Filter":
    """Return the filter that matches all of the options; see `qacli.cli.store.open_selected`."""
    from qacli.db.filters import Filter

    clock = now()
    return Filter(
        search=search,
        since=parse_when(since, clock) if since else None,
        until=parse_when(until, clock) if until else None,
        model=model,
        endpoint=endpoint,
        status=status,
        error_kind=error,
        tag=tag,
        batch=batch,
        system=system,
        thread=None if thread is None else parse_record_id(thread),
        follows_id=None if follow is None else parse_record_id(follow),
        repeats_id=None if repeats is None else parse_record_id(repeats),
        min_cost=min_cost,
        rating=None if rating is None else parse_rating(rating),
        caller=caller,
        request_id=request_id,
        tool=tool_call,
    )


with_filter_options = with_options_of(filter_from_options, "only")
"""Add the options of `filter_from_options` to a command, which gets the filter as `only`."""

"""`qa show`: one record."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.answer_use import AnswerUse, with_use_options
from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, RecordId, parse_record_id
from qacli.cli.options import AsJson, NoPager, ShowReasoning
from qacli.cli.settings import load_settings
from qacli.errors import InvalidRequest, NotFound
from qacli.record_fields import RECORD_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qacli.db.models import QuestionAnswer

EPILOG = (
    "\b\nExamples:\n"
    "  qa show last\n"
    "  qa show 12 --json\n"
    "  qa show last --field answer | wc -w\n"
    "  qa show last -x > script.py\n"
    "  qa show 12 --copy\n"
    "  qa show 12 --html > answer.html"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG, context_settings=NEGATIVE_IDS)(show)


@with_use_options
def show(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    record_id: RecordId,
    *,
    thread: Annotated[
        bool,
        typer.Option("--thread", help="Show the whole thread up to this record, oldest first."),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Show tool calls and their results whole in a thread.")
    ] = False,
    field: Annotated[
        str | None, typer.Option(help="Print only this field.", metavar="FIELD")
    ] = None,
    show_reasoning: ShowReasoning = None,
    request: Annotated[
        bool,
        typer.Option("--request", help="Print the request as JSON, with its whole conversation."),
    ] = False,
    html: Annotated[
        bool,
        typer.Option("--html", help="Print an HTML file that looks like the page of qa serve."),
    ] = False,
    use: AnswerUse,
    no_pager: NoPager = False,
    as_json: AsJson = False,
) -> None:
    """Show one question and its answer."""
    from qacli.cli.store import open_store, record_at

    console = Console.from_context(context)
    number = parse_record_id(record_id)
    if field is not None and field not in RECORD_FIELDS:
        raise InvalidRequest(
            f"A record has no field {field!r}.", f"The fields are {', '.join(RECORD_FIELDS)}."
        )
    _check_options(use, alone=thread or request or html or field is not None)
    if html and (as_json or request or field is not None):
        raise InvalidRequest(
            "--html prints a whole record, so it does not go with --json, --request and --field.",
            "Leave one of them out.",
        )
    settings = load_settings(console).explicit_values({"show_reasoning": show_reasoning})
    store = open_store(settings, console)
    record = record_at(store, number)
    fields = record.to_dict()
    if request:
        from qacli.services.record_request import rebuild_request

        console.print_json(rebuild_request(store, record))
        return
    if use != AnswerUse():
        _use_answer(use, record, console, fields if as_json else None)
    if use.replaces_output:
        return
    records = store.thread(record.id or 0) if thread else [record]
    if field is not None:
        value = fields[field]
        if as_json or not isinstance(value, str):
            console.print_json(value)
        else:
            console.print(value)
    elif as_json:
        console.print_json([item.to_dict() for item in records] if thread else fields)
    elif html:
        from qacli.web.ui.document import html_document

        console.print_lines(html_document(item.to_dict() for item in records))
    else:
        from qacli.cli.pager import pager_output

        with pager_output(console, settings, enabled=not no_pager) as screen:
            _print_records(
                records,
                screen,
                show_reasoning=settings.show_reasoning,
                fold_tools=thread and not full,
            )


def _print_records(
    records: "Sequence[QuestionAnswer]", screen: Console, *, show_reasoning: bool, fold_tools: bool
) -> None:
    """Print records for reading, with an empty line between them."""
    from qacli.cli.formatters import show_record

    for index, record in enumerate(records):
        if index:
            screen.print("")
        show_record(record, screen, show_reasoning=show_reasoning, fold_tools=fold_tools)


def _check_options(use: AnswerUse, *, alone: bool) -> None:
    """Check the options that use the answer.

    Args:
        use: The options.
        alone: True if another option prints something else than the answer.

    Raises:
        InvalidRequest: The options do not go together, or the file cannot be written.
    """
    if alone and use != AnswerUse():
        raise InvalidRequest(
            "--extract, --copy and --output use one answer, so they do not go with --thread, "
            "--request, --html and --field.",
            "Leave one of them out.",
        )
    use.check_output()


def _use_answer(
    use: AnswerUse, record: "QuestionAnswer", console: Console, fields: dict[str, Any] | None
) -> None:
    """Print, copy or write the answer; with fields, as JSON.

    Raises:
        NotFound: The record has no answer.
    """
    if not record.answer:
        raise NotFound(f"Record {record.id} has no answer.", f"See: qa show {record.id}")
    document = None if fields is None else json.dumps(fields, ensure_ascii=False)
    use.apply(record.answer, console, record_id=record.id, document=document)

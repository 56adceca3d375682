"""Open the history for a command, and deliver the outbox first."""

from contextlib import suppress
from typing import TYPE_CHECKING

from qacli.cli.console import Console
from qacli.cli.filters import parse_record_id
from qacli.cli.settings import load_settings
from qacli.config.settings import Settings
from qacli.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qacli.db.batches import Batches
    from qacli.db.filters import Filter
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store


def open_store(settings: Settings, console: Console, *, connections: int = 0) -> "Store":
    """Open the history, once for a command, and deliver the answers that wait in the outbox.

    Args:
        settings: The URL of the database, and the path of the outbox.
        console: Prints the number of delivered questions; its `store` is the open history.
        connections: The number of connections to keep. By default it is one for PostgreSQL, where
            connecting takes as long as reading a page; SQLite connects for each use.

    Raises:
        DatabaseError: The history cannot be used; the error has the number of questions in the
            outbox.
    """
    from qacli.db.records import Store
    from qacli.recording.outbox import Outbox
    from qacli.recording.recovery import recover_outbox

    outbox = Outbox(settings.outbox_path)
    try:
        store = console.store or Store.open(
            settings.database,
            connections=connections or (0 if settings.database.startswith("sqlite") else 1),
        )
        console.store = store
    except DatabaseError as error:
        if pending := len(outbox.pending()):
            error.todo += f" {count_noun(pending, 'question')} will be delivered once it works."
        raise
    # A damaged journal is set aside only if the user sees the warning.
    report = None if console.quiet else outbox_warner(console)
    try:
        if delivered := recover_outbox(outbox, store, report=report):
            console.info(f"Delivered from the outbox: {count_noun(delivered, 'question')}.")
    except DatabaseError as error:
        # The history can still be read, for example on a full disk.
        pending_questions = count_noun(len(outbox.pending()), "question")
        console.warning(f"qa: {error} The outbox keeps {pending_questions} until then.")
    return store


def open_selected(settings: Settings, console: Console, only: "Filter") -> tuple["Store", "Filter"]:
    """Open the history for a selection of records; see `open_store`.

    Returns the store, and the selection with the ids that `last` and -2 mean. Of records that ask
    one question, each selects all.

    Raises:
        NotFound: There is no batch of the name, no record of the thread, or no record that `last`
            or -2 means.
    """
    from dataclasses import replace

    from qacli.errors import NotFound

    store = open_store(settings, console)
    if only.batch is not None:
        from qacli.db.batches import Batches

        Batches(store).get(only.batch)
    if only.thread is not None:
        record_at(store, only.thread)
    if only.follows_id is not None and only.follows_id < 0:
        only = replace(only, follows_id=record_at(store, only.follows_id).id)
    if only.repeats_id is not None:
        try:
            record = record_at(store, only.repeats_id)
        except NotFound:
            if only.repeats_id < 0:
                raise
        else:  # the first record may be removed, and the others still name it
            only = replace(only, repeats_id=record.repeats_id or record.id)
    return store, only


def outbox_warner(console: Console) -> "Callable[[str], None]":
    """Return a function that prints a warning about the outbox."""
    return lambda text: console.warning(f"qa: {text}")


def open_batches(settings: Settings, console: Console, *, connections: int = 0) -> "Batches":
    """Open the batches of the history; see `open_store`."""
    from qacli.db.batches import Batches

    return Batches(open_store(settings, console, connections=connections))


def last_answered(store: "Store", console: Console) -> "QuestionAnswer":
    """Return the record that `--continue` follows up.

    It is the last record. If that has no answer, it is the record that it follows up, or else the
    last answered record; then a warning names both.

    Raises:
        NotFound: There is no record.
    """
    from qacli.db.filters import Filter
    from qacli.domain import Status
    from qacli.errors import NotFound

    last = record = store.newest()
    with suppress(NotFound):  # the earlier record was deleted
        while record.answer is None and record.follows_id is not None:
            record = store.get(record.follows_id)
    if record.answer is None:
        answered = Filter(status=Status.ANSWERED)
        newest = store.dicts(answered, by_time=True, limit=1)
        record = next((store.get(document["id"]) for document in newest), last)
    if record.id != last.id:
        console.warning(f"Record {last.id} has no answer; following up record {record.id}.")
    return record


def record_at(store: "Store", number: int) -> "QuestionAnswer":
    """Return the record with this id; below 0, count back from the newest record (-1).

    Raises:
        NotFound: There is no such record.
    """
    return store.get(number) if number >= 0 else store.newest(-number)


def annotate(
    console: "Console", record_id: str, *, as_json: bool, **values: str | int | None
) -> None:
    """Set the title or the rating of a record, and print the record.

    Args:
        console: The output.
        record_id: The id, as the command line has it.
        as_json: Print JSON.
        values: `title` or `rating`, with its value; None removes it.

    Raises:
        NotFound: There is no such record.
    """
    store = open_store(load_settings(console), console)
    number = record_at(store, parse_record_id(record_id)).id or 0
    store.annotate(number, **values)
    if as_json:
        console.print_json({"id": number, **values})
        return
    for name, value in values.items():
        console.print(f"{number}: {value or f'(no {name})'}")


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

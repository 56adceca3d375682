"""The history as the commands open it: with what waits in the outbox delivered first."""

from contextlib import suppress
from typing import TYPE_CHECKING

from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qacli.db.batches import Batches
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store


def open_store(settings: Settings, console: Console, *, connections: int = 0) -> "Store":
    """Open the history, once for a command, and deliver what earlier commands could not.

    Args:
        settings: The address of the database, and the outbox.
        console: Shows what has been delivered, and what cannot be; keeps the open history.
        connections: The number of connections to keep. By default it is one for PostgreSQL, which
            takes as long to connect as to read a page; SQLite connects for each use.

    Raises:
        DatabaseError: It cannot be used; says how much is waiting for it.
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
        if waiting := len(outbox.pending()):
            error.todo += f" {count_noun(waiting, 'question')} will be delivered once it works."
        raise
    # A journal that cannot be read whole is renamed only where a person sees the warning.
    report = None if console.quiet else warn_of(console)
    try:
        if delivered := recover_outbox(outbox, store, report=report):
            console.info(f"Delivered from the outbox: {count_noun(delivered, 'question')}.")
    except DatabaseError as error:
        # It may still be read, on a full disk for example; a command that writes reports why not.
        kept = count_noun(len(outbox.pending()), "question")
        console.warning(f"qa: {error} The outbox keeps {kept} until then.")
    return store


def warn_of(console: Console) -> "Callable[[str], None]":
    """Return what shows a warning about the outbox on a terminal."""
    return lambda text: console.warning(f"qa: {text}")


def open_batches(settings: Settings, console: Console, *, connections: int = 0) -> "Batches":
    """The batches of the history; see `open_store`."""
    from qacli.db.batches import Batches

    return Batches(open_store(settings, console, connections=connections))


def last_answered(store: "Store", console: Console) -> int:
    """The id of the record that `--continue` follows up.

    It is the last record, or, where that has no answer, the record that it followed up; where it
    followed up none, the last answered one. Another than the last is told on stderr.

    Raises:
        NotFound: There is no record.
    """
    from qacli.db.filters import Filter
    from qacli.domain import Status
    from qacli.errors import NotFound

    last = record = store.newest()
    with suppress(NotFound):  # it was removed
        while record.answer is None and record.follows_id is not None:
            record = store.get(record.follows_id)
    if record.answer is None:
        answered = Filter(status=Status.ANSWERED)
        record = next(iter(store.page(limit=1, newest_first=True, only=answered)), last)
    if record.id != last.id:
        console.warning(f"Record {last.id} has no answer; going on from record {record.id}.")
    return record.id or 0


def record_at(store: "Store", number: int) -> "QuestionAnswer":
    """The record with that id; below 0, that many from the newest back.

    Raises:
        NotFound: There is none.
    """
    return store.get(number) if number >= 0 else store.newest(-number)


def count_noun(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is due."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""The history as the commands open it: with what waits in the outbox delivered first."""

from contextlib import suppress
from typing import TYPE_CHECKING

from qacli.cli.terminal import Terminal
from qacli.config import Settings
from qacli.errors import DatabaseError

if TYPE_CHECKING:
    from qacli.models import QuestionAnswer
    from qacli.store import Store
    from qacli.store.batches import Batches


def open_history(settings: Settings, terminal: Terminal, *, connections: int = 0) -> "Store":
    """The store, up to date with what earlier commands could not deliver.

    Args:
        settings: Where it is.
        terminal: Told what has been delivered.
        connections: How many connections to keep; 0 opens one for each use.

    Raises:
        DatabaseError: It cannot be used; says how much is waiting for it.
    """
    from qacli.asking import deliver
    from qacli.outbox import Outbox
    from qacli.store import Store

    outbox = Outbox(settings.outbox_path)
    try:
        store = Store.open(settings.database, connections=connections)
        # One that can only be read is read; what waits for it stays in the outbox.
        if store.writable and (delivered := deliver(outbox, store)):
            terminal.note(f"Delivered from the outbox: {counted(delivered, 'question')}.")
    except DatabaseError as error:
        if waiting := len(outbox.waiting()):
            error.todo += f" {counted(waiting, 'question')} will be delivered once it works."
        raise
    return store


def open_batches(settings: Settings, terminal: Terminal, *, connections: int = 0) -> "Batches":
    """The batches of the history; see `open_history`."""
    from qacli.store.batches import Batches

    return Batches(open_history(settings, terminal, connections=connections))


def last_answered(store: "Store", terminal: Terminal) -> int:
    """The id of the record that `--continue` follows up.

    It is the last record, or, where that has no answer, the record that it followed up; where it
    followed up none, the last answered one. Another than the last is told on stderr.

    Raises:
        NotFound: There is no record.
    """
    from qacli.errors import NotFound
    from qacli.exchange import Status
    from qacli.store.filters import Filter

    last = record = store.last()
    with suppress(NotFound):  # it was removed
        while record.answer is None and record.follows_id is not None:
            record = store.get(record.follows_id)
    if record.answer is None:
        answered = Filter(status=Status.ANSWERED)
        record = next(iter(store.page(limit=1, newest_first=True, only=answered)), last)
    if record.id != last.id:
        terminal.warn(f"Record {last.id} has no answer; going on from record {record.id}.")
    return record.id or 0


def record_at(store: "Store", number: int) -> "QuestionAnswer":
    """The record with that id; below 0, that many from the newest back.

    Raises:
        NotFound: There is none.
    """
    return store.get(number) if number >= 0 else store.last(-number)


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is due."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""Recovery: deliver journals that ended processes left in the outbox.

A command does it once, when it opens the history; a server every two seconds; a batch before it
takes over the claims of a worker that has ended.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from qacli.domain import DeferredQuestion, Status
from qacli.errors import DatabaseError, RecordRefused
from qacli.recording.outbox import Entry, OrphanedJournal, Outbox
from qacli.recording.recorder import with_follows_id

if TYPE_CHECKING:
    from qacli.db.records import Store

LOG = logging.getLogger("qa.web")
RECOVERY_SECONDS = 2.0


def recover_outbox(
    outbox: Outbox,
    store: "Store",
    again: Callable[[DeferredQuestion], bool] = lambda _ask: False,
    report: Callable[[str], None] | None = None,
) -> int:
    """Bring what other processes left in the outbox into the history; returns how many questions.

    A history that can only be read is left alone. A journal is deleted once the history has all
    that is in it. One with parts that cannot be read, or that the history does not take, is
    renamed, and `report` is called with its new place.

    Args:
        outbox: Where the journals are.
        store: The history.
        again: Asks again a question that was accepted and has no answer, once a new journal has
            it; returns whether it did. Any other stays in the outbox, for a server to ask.
        report: Called with a sentence for each journal that a person should look at; without it
            such a journal stays where it is, for a process that can report it.

    Raises:
        DatabaseError: The database is away; what it does not have stays in the outbox.
    """
    if not store.writable:
        return 0
    delivered = 0
    for journal in outbox.orphaned():
        try:
            contents = journal.read()
        except OSError as error:
            if report is not None:
                report(_left_in_place(journal, error))
            continue
        problems, is_due = list(contents.problems), False
        for entry in contents.entries:
            if entry.finished is None and isinstance(entry.ask, DeferredQuestion):
                is_due = not again(entry.ask) or is_due
            elif (problem := _deliver_entry(entry, store)) is not None:
                problems.append(f"{problem}: {entry.ask.question[:40]!r}")
            else:
                delivered += 1
        if not is_due:
            _clear_away(journal, problems, report)
    if report is not None:
        _report_unopenable(outbox, report)
    return delivered


def start_recovery(
    outbox: Outbox,
    store: "Store",
    again: Callable[[DeferredQuestion], bool],
    seconds: float = RECOVERY_SECONDS,
) -> threading.Event:
    """Start a thread that calls `recover_outbox` again and again; returns the event that ends it.

    What a person should look at is logged, once for each journal.
    """
    reported: set[str] = set()
    ended = threading.Event()

    def report(text: str) -> None:
        if text not in reported:
            reported.add(text)
            LOG.warning("%s", text)

    def run() -> None:
        while not ended.wait(seconds):
            try:
                recover_outbox(outbox, store, again, report)
            except (DatabaseError, OSError):
                pass  # it is tried again
            except Exception:
                LOG.exception("what waits in the outbox could not be delivered")

    threading.Thread(target=run, name="qa-recovery", daemon=True).start()
    return ended


def _report_unopenable(outbox: Outbox, report: Callable[[str], None]) -> None:
    """Report each journal that cannot be opened; one that is no file is set aside."""
    for journal, error in outbox.unopenable():
        if journal.is_file:
            report(_left_in_place(journal, error))
        else:
            _clear_away(journal, ["it is no file"], report)


def _deliver_entry(entry: Entry, store: "Store") -> str | None:
    """Keep one question of a journal; returns why the history does not have all of it, or None."""
    outcome = entry.outcome()
    try:
        if entry.ask.batch_id is not None:
            store.upsert_items(entry.ask.batch_id, [(entry.ask, outcome)])
        else:
            store.upsert(with_follows_id(entry.ask, entry.follows_uid, store), outcome)
        record = store.by_uid(entry.ask.uid) if outcome.answer else None
    except RecordRefused as error:
        return error.what.rstrip(".")
    except DatabaseError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad entry must not hold back the others
        return f"the record cannot be kept, {type(error).__name__}"
    if not outcome.answer or (record is not None and record.answer == outcome.answer):
        return None
    if outcome.status is not Status.ANSWERED and (
        entry.ask.batch_id is not None or (record is not None and record.status is Status.ANSWERED)
    ):
        # A part of an answer, and the history has a whole one.
        return None
    return "the history has another answer to the question"


def _clear_away(
    journal: OrphanedJournal, problems: list[str], report: Callable[[str], None] | None
) -> None:
    """Delete a journal that is delivered, or set it aside where there are problems with it."""
    try:
        if not problems:
            journal.discard()
        elif report is not None:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            report(
                f"Parts of a journal could not be delivered: {problems[0]}{more}. The rest is in "
                f"the history. The journal is kept as {journal.quarantine()}: look into it, it is "
                "text, and delete it when you need nothing more from it."
            )
    except OSError as error:
        if report is not None:
            report(_left_in_place(journal, error))


def _left_in_place(journal: OrphanedJournal, error: OSError) -> str:
    return (
        f"The journal {journal.path} cannot be read or moved: {error.strerror}. "
        "See that it and its directory are yours to read and write."
    )

"""Deliver the journals that ended processes left in the outbox.

A command does this once, when it opens the history; a server every two seconds; a batch before it
takes over the claims of a dead worker.
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
    resume: Callable[[DeferredQuestion], bool] = lambda _question: False,
    report: Callable[[str], None] | None = None,
) -> int:
    """Store the questions in orphaned journals in the history; return their number.

    Nothing is done for a history that can only be read. A journal is deleted once the history has
    all of it. A journal with parts that cannot be read, or that the history does not accept, is
    renamed, and `report` is called with its new path.

    Args:
        outbox: The directory of the journals.
        store: The history.
        resume: Called with each deferred question without an answer. It asks the question again,
            from a new journal, and returns True; if it returns False, the question stays in the
            outbox, for a server.
        report: Called with a sentence for each journal that a person should look at. Without it
            such a journal is not renamed, so that a later process can report it.

    Raises:
        DatabaseError: The database cannot be used; the questions stay in the outbox.
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
        problems, is_needed = list(contents.problems), False
        for entry in contents.entries:
            if entry.finished is None and isinstance(entry.question, DeferredQuestion):
                is_needed = not resume(entry.question) or is_needed
            elif (problem := _deliver_entry(entry, store)) is not None:
                problems.append(f"{problem}: {entry.question.question[:40]!r}")
            else:
                delivered += 1
        if not is_needed:
            _remove(journal, problems, report)
    if report is not None:
        _report_unopenable(outbox, report)
    return delivered


def start_recovery(
    outbox: Outbox,
    store: "Store",
    resume: Callable[[DeferredQuestion], bool],
    seconds: float = RECOVERY_SECONDS,
) -> threading.Event:
    """Start a thread that calls `recover_outbox` every few seconds; return the event that ends it.

    Its reports are logged, each of them once.
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
                recover_outbox(outbox, store, resume, report)
            except (DatabaseError, OSError):
                pass  # it is tried again
            except Exception:
                LOG.exception("the outbox could not be delivered")

    threading.Thread(target=run, name="qa-recovery", daemon=True).start()
    return ended


def _report_unopenable(outbox: Outbox, report: Callable[[str], None]) -> None:
    """Report each journal that cannot be opened; one that is not a file is set aside."""
    for journal, error in outbox.unopenable():
        if journal.is_file:
            report(_left_in_place(journal, error))
        else:
            _remove(journal, ["it is not a file"], report)


def _deliver_entry(entry: Entry, store: "Store") -> str | None:
    """Store one question of a journal; return the reason if the history does not have all of it."""
    outcome = entry.outcome()
    try:
        if entry.question.batch_id is not None:
            store.upsert_items(entry.question.batch_id, [(entry.question, outcome)])
        else:
            store.upsert(with_follows_id(entry.question, entry.follows_uid, store), outcome)
        record = store.by_uid(entry.question.uid) if outcome.answer else None
    except RecordRefused as error:
        return error.what.rstrip(".")
    except DatabaseError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad entry must not stop the others
        return f"the record cannot be stored, {type(error).__name__}"
    if not outcome.answer or (record is not None and record.answer == outcome.answer):
        return None
    has_answer = record is not None and record.status is Status.ANSWERED
    if outcome.status is not Status.ANSWERED and (
        entry.question.batch_id is not None or has_answer
    ):
        # The journal has a part of an answer, and the history a complete one.
        return None
    return "the history has another answer to the question"


def _remove(
    journal: OrphanedJournal, problems: list[str], report: Callable[[str], None] | None
) -> None:
    """Delete a delivered journal, or set it aside if it has problems."""
    try:
        if not problems:
            journal.discard()
        elif report is not None:
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            report(
                f"Parts of a journal could not be delivered: {problems[0]}{others}. The rest is in "
                f"the history. The journal is now {journal.quarantine()}, a text file: read it, "
                "and delete it when you no longer need it."
            )
    except OSError as error:
        if report is not None:
            report(_left_in_place(journal, error))


def _left_in_place(journal: OrphanedJournal, error: OSError) -> str:
    return (
        f"The journal {journal.path} cannot be read or moved: {error.strerror}. "
        "Check that you may read and write it and its directory."
    )

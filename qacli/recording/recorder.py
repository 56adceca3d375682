"""Where a question and its outcome are kept on their way: noted in the outbox, then in the history.

The order is what keeps the promise: noted before it is asked, each piece of text noted as it
arrives, the outcome noted, kept in the database, and only then dropped from the outbox.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import Protocol

from qacli.domain import Outcome, Question
from qacli.errors import DatabaseError
from qacli.recording.outbox import Journal, Outbox


class RecordStore(Protocol):
    """What keeps a record: `qacli.db.records.Store`, or whoever asks it to."""

    def upsert(self, ask: Question, outcome: Outcome) -> int:
        """Keep a question and what is known of its outcome; returns the record's id.

        Raises:
            DatabaseError: The database did not take it.
        """

    def id_for_uid(self, uid: str) -> int | None:
        """The id of the record of a question that was kept under this uid, where it is there.

        Raises:
            DatabaseError: The database is away.
        """


class Recorder(Protocol):
    """What an exchange tells of its question."""

    def begin(self, ask: Question, *, reserve: bool) -> int | None:
        """Note what is about to be asked; it may be sent once this returns.

        Args:
            ask: The question.
            reserve: Keep a record in the state `asking` too, and return its id.

        Raises:
            OutboxUnwritable: It could not be noted.
            DatabaseError: It could not be reserved; then it is not noted either.
        """

    def append_text(self, uid: str, text: str) -> None:
        """Note a piece of the answer, so that a killed process leaves what had arrived."""

    def finish(self, ask: Question, outcome: Outcome) -> tuple[int | None, DatabaseError | None]:
        """Keep the outcome; returns the record's id, or why only the outbox has it for now.

        Raises:
            DatabaseError: Neither the outbox nor the database could take it.
        """


class SingleRecorder:
    """Keeps one question of a process that asks one at a time: in a journal of its own.

    Args:
        outbox: Where the journal is.
        store: Gives the history; called only when a record is to be kept.
        follows_uid: The question that it follows up, where that has no record yet.
    """

    def __init__(
        self, outbox: Outbox, store: Callable[[], RecordStore], follows_uid: str | None = None
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._follows_uid = follows_uid
        self._journal: Journal | None = None

    def begin(self, ask: Question, *, reserve: bool) -> int | None:
        """See `Recorder`."""
        journal = self._outbox.open()
        try:
            journal.begin(ask, follows_uid=self._follows_uid)
            record_id = self._store().upsert(ask, Outcome()) if reserve else None
        except BaseException:
            journal.discard()
            raise
        self._journal = journal
        return record_id

    def append_text(self, uid: str, text: str) -> None:
        """See `Recorder`."""
        if self._journal is not None:
            self._journal.append_text(uid, text)

    def finish(self, ask: Question, outcome: Outcome) -> tuple[int | None, DatabaseError | None]:
        """See `Recorder`."""
        journal, in_outbox = self._journal, True
        assert journal is not None, "begin comes first"  # noqa: S101 - for the type checker
        try:
            journal.finish(ask.uid, outcome)
        except OSError:
            in_outbox = False  # the disk is full, say: the database may still take it
        try:
            record_id = _interruptible(lambda: self._save(ask, outcome))
        except DatabaseError as failure:
            journal.close()
            if not in_outbox:
                raise lost_answer_error(failure) from failure
            return None, failure
        except (KeyboardInterrupt, SystemExit) as impatience:
            if not in_outbox:
                unknown = DatabaseError("the database was not waited for.")
                raise lost_answer_error(unknown) from impatience
            raise
        journal.discard()
        return record_id, None

    def _save(self, ask: Question, outcome: Outcome) -> int:
        store = self._store()
        return store.upsert(with_follows_id(ask, self._follows_uid, store), outcome)


def _interruptible(call: Callable[[], int]) -> int:
    """Call it in another thread: Ctrl-C does not interrupt SQLite when it waits for a lock."""
    result: Future[int] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            result.set_exception(error)

    Thread(target=run, name="qa-database", daemon=True).start()
    return result.result()


def with_follows_id(ask: Question, follows_uid: str | None, store: RecordStore) -> Question:
    """The question with the record that it follows up, where only that one's uid was known."""
    return ask if follows_uid is None else replace(ask, follows_id=store.id_for_uid(follows_uid))


def lost_answer_error(failure: DatabaseError) -> DatabaseError:
    """The one case in which an answer is lost to the history."""
    return DatabaseError(
        f"The answer could not be kept: the outbox cannot be written, and {failure}",
        "Save what was shown, and make room on the disk.",
    )

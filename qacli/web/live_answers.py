"""The answers that this process receives: their text so far goes to the database, and they can end.

Each second the text so far of the answers that have grown is stored in their records, which stay
`asking`, and the process looks for records that are to be cancelled. So any server process on the
database shows an answer while it arrives, and can cancel it. An answer that is complete within
a second is stored once.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING

from qacli.cancellation import Cancellation
from qacli.db.records import Store
from qacli.domain import Delta, Status
from qacli.errors import AlreadyFinished, DatabaseError
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import Recorder

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer
    from qacli.provider.response import TextEvent

LOG = logging.getLogger("qa.web")

SAVE_SECONDS = 1.0
"""Seconds between two writes of the text so far."""

CANCEL_SECONDS = 2.0
"""Seconds that a request to cancel an answer waits for its end."""

PAUSE_SECONDS = 0.02


@dataclass(slots=True)
class _LiveAnswer:
    record_id: int | None
    cancellation: Cancellation
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    saved_pieces: int = 0

    @property
    def pieces(self) -> int:
        return len(self.texts) + len(self.reasoning)


class LiveAnswers:
    """The answers of one process that are not complete, by the uids of their questions.

    Args:
        store: Returns the history of all callers.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._answers: dict[str, _LiveAnswer] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, uid: str, record_id: int | None, cancellation: Cancellation) -> None:
        """Add the answer to a question that is sent next."""
        with self._changed:
            self._answers[uid] = _LiveAnswer(record_id, cancellation)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="qa-live", daemon=True)
                self._thread.start()

    def append(self, uid: str, event: "TextEvent") -> None:
        """Add a piece of text or reasoning to an answer."""
        with self._changed:
            if (answer := self._answers.get(uid)) is not None:
                (answer.texts if isinstance(event, Delta) else answer.reasoning).append(event.text)

    def remove(self, uid: str) -> None:
        """Remove an answer that has ended."""
        with self._changed:
            self._answers.pop(uid, None)

    def cancel(self, record_id: int) -> None:
        """Cancel the answer of a record, if this process receives it."""
        with self._changed:
            answers = [item for item in self._answers.values() if item.record_id == record_id]
        for answer in answers:
            answer.cancellation.request()

    def save(self) -> None:
        """Store the text so far, and cancel the answers for which the database has a request.

        Raises:
            DatabaseError: The database cannot be used; the next call stores the text.
        """
        with self._changed:
            answers = dict(self._answers)
            pieces = {uid: item.pieces for uid, item in answers.items()}
            texts = {
                uid: ("".join(item.texts) or None, "".join(item.reasoning).strip() or None)
                for uid, item in answers.items()
                if item.pieces > item.saved_pieces
            }
        cancelled = self._store().save_partial_answers(texts, list(answers))
        for uid, number in pieces.items():
            answers[uid].saved_pieces = number
        for uid in cancelled:
            answers[uid].cancellation.request()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers)
            sleep(SAVE_SECONDS)
            try:
                self.save()
            except DatabaseError:
                pass  # the next attempt stores the text
            except Exception:
                LOG.exception("the text so far could not be stored")


class LiveRecorder(Recorder):
    """The recorder of a server, which adds the text that arrives to its `LiveAnswers`."""

    def __init__(self, live: LiveAnswers, outbox: Outbox, store: Callable[[], Store]) -> None:
        super().__init__(outbox, store)
        self._live = live

    def append(self, uid: str, event: "TextEvent") -> None:
        """See `Recorder.append`."""
        super().append(uid, event)
        self._live.append(uid, event)


def cancel_answer(live: LiveAnswers, store: Store, record_id: int) -> "QuestionAnswer":
    """Cancel the answer of a record, and return the record.

    The record is still `asking` if another process receives the answer and has not ended it within
    `CANCEL_SECONDS`.

    Args:
        live: The answers of this process.
        store: The history of the caller.
        record_id: The record.

    Raises:
        NotFound: The record does not exist, or belongs to another caller.
        AlreadyFinished: The answer is complete, or has failed.
    """
    if not store.request_cancel(record_id):
        status = store.get(record_id).status
        raise AlreadyFinished(
            f"Record {record_id} is not being asked: its status is {status}.", "Read the record."
        )
    live.cancel(record_id)
    end = monotonic() + CANCEL_SECONDS
    while (record := store.get(record_id)).status is Status.ASKING and monotonic() < end:
        sleep(PAUSE_SECONDS)
    return record

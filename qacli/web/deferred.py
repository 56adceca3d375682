"""Ask deferred questions again that an earlier server process accepted but did not answer.

A client that got "202 Accepted" does not ask again, so the next server does. The journal has
these questions. Only a question that was in flight when the server ended may be sent twice.
"""

from time import sleep

from qacli.domain import DeferredQuestion, Outcome, Status
from qacli.errors import Busy, Cancelled, DatabaseError, NotConfigured, QaError
from qacli.web.answer import AnswerStream, start_answer
from qacli.web.state import AppState

PAUSE_SECONDS = 0.2


class DeferredResumer:
    """Ask a deferred question again, in the background, as soon as a slot is free.

    Args:
        state: The application's state.
    """

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._resumed: set[str] = set()

    def __call__(self, question: DeferredQuestion) -> bool:
        """Ask the question; return True if its old journal is no longer needed.

        Raises:
            DatabaseError: The history cannot be read or written.
        """
        if question.uid in self._resumed:
            return True
        record = self._state.all_records.by_uid(question.uid)
        if record is None or record.status is not Status.ASKING:
            # It has been answered or deleted, or was never accepted.
            return True
        if record.error_kind == Cancelled.kind:
            self._fail(question, Cancelled(record.error or ""))
            return True
        try:
            self._start(question).complete_in_background()
        except NotConfigured:
            return False
        except DatabaseError:
            raise
        except QaError as error:
            self._fail(question, error)
        self._resumed.add(question.uid)
        return True

    def _fail(self, question: DeferredQuestion, error: QaError) -> None:
        outcome = Outcome()
        outcome.fail(error)
        self._state.all_records.upsert(question, outcome)

    def _start(self, question: DeferredQuestion) -> AnswerStream:
        # The journal stays locked, so that no other process asks the same question.
        while True:
            try:
                # The right to follow up that record was checked when the question was accepted.
                return start_answer(self._state, question, self._state.all_records)
            except Busy:
                sleep(PAUSE_SECONDS)

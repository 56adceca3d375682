"""Questions that were accepted and not answered before their server ended: they are asked again.

Who has been told "accepted" (202) does not ask once more, so the next server does. The journal
says which they are. What was in flight then may have been sent before, and is asked twice;
nothing else is.
"""

from time import sleep

from qacli.domain import DeferredQuestion, Outcome, Status
from qacli.errors import Busy, DatabaseError, NotConfigured, QaError
from qacli.web.answer import LiveAnswer, make_answer
from qacli.web.state import AppState

PAUSE_SECONDS = 0.2


class DeferredResumer:
    """Asks such a question again, in the background, as soon as there is a place for it.

    Args:
        service: What is needed to ask.
    """

    def __init__(self, service: AppState) -> None:
        self._service = service
        self._taken: set[str] = set()

    def __call__(self, ask: DeferredQuestion) -> bool:
        """Ask it; returns whether that is settled, so that its old journal is not needed.

        Raises:
            DatabaseError: The history cannot be read or written now.
        """
        if ask.uid in self._taken:
            return True
        record = self._service.all_records.by_uid(ask.uid)
        if record is None or record.status is not Status.ASKING:
            # It has been answered since, was removed, or was never promised anything.
            return True
        try:
            self._begin(ask).complete_in_background()
        except NotConfigured:
            return False
        except DatabaseError:
            raise
        except QaError as error:
            outcome = Outcome()
            outcome.fail(error)
            self._service.all_records.upsert(ask, outcome)
        self._taken.add(ask.uid)
        return True

    def _begin(self, ask: DeferredQuestion) -> LiveAnswer:
        # Whoever waits here has the journal, so that no other process asks the same.
        while True:
            try:
                # What it follows up was checked when it was accepted.
                return make_answer(self._service, ask, self._service.all_records).begin()
            except Busy:
                sleep(PAUSE_SECONDS)

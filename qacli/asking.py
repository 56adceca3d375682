"""The use case: a question in, a recorded answer out. Joins provider, outbox and store.

The order is what keeps the promise: noted in the outbox, asked, each piece noted as it arrives,
the outcome noted, kept in the database, and only then dropped from the outbox. Whatever happens
in between, the next command finds either the record or the note.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from qacli.attachments import mentioned
from qacli.errors import (
    BrokenAnswer,
    DatabaseError,
    Interrupted,
    InvalidRequest,
    QaError,
    RecordRefused,
)
from qacli.exchange import Ask, Outcome, Part, Status, Turn, now
from qacli.outbox import Journal, Outbox
from qacli.prices import Prices, estimated_tokens

if TYPE_CHECKING:
    from qacli.provider import Provider, Reply
    from qacli.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is needed to ask and keep.

    Attributes:
        provider: Gives a provider for a question's model.
        outbox: Where questions wait for the database; None asks without keeping anything.
        store: Opens the history, or gives the open one; called only when an answer is to be kept,
            so that a request need not wait until the database layer is loaded.
        prices: For the cost of an answer.
    """

    provider: Callable[[Ask], "Provider"]
    outbox: Outbox | None
    store: Callable[[], "Store"]
    prices: Prices = field(default_factory=Prices)

    def ask(  # noqa: PLR0913 - what asking is, by name
        self,
        ask: Ask,
        *,
        reserve: bool = False,
        whole_answer: bool = False,
        turns: Sequence[Turn] = (),
        parts: Sequence[Part] = (),
        check: Callable[[str], None] | None = None,
    ) -> "Exchange":
        """An exchange to be entered and read; see there.

        Args:
            ask: The question.
            reserve: Keep a record in the state `asking` first, so that it has an id at once; then
                a database that is down is an error before anything is asked.
            whole_answer: Ask for the answer in one piece instead of a stream.
            turns: What it follows up, as `turns_before` finds it.
            parts: What is put before it, and is no part of it.
            check: Raises BrokenAnswer for a whole answer that is not what was asked for; the
                record is a failed one then, with all of the answer.
        """
        return Exchange(
            self,
            ask,
            reserve=reserve,
            whole_answer=whole_answer,
            turns=turns,
            parts=parts,
            check=check,
        )


class Exchange:
    """One question being asked: enter it, read the answer's text from it, and it is kept.

    However the `with` block ends, the outcome is recorded: the whole answer, or what had arrived
    and why there is no more.

    Attributes:
        ask: The question.
        outcome: What became of it; complete after the block.
        record_id: The record's id, once the database has given it one.
        undelivered: Why the database has not got it yet; it waits in the outbox then.
        unfit: Why the whole answer is not what was asked for, where it was checked.
    """

    def __init__(  # noqa: PLR0913 - as Asking.ask
        self,
        asking: Asking,
        ask: Ask,
        *,
        reserve: bool,
        whole_answer: bool,
        turns: Sequence[Turn],
        parts: Sequence[Part],
        check: Callable[[str], None] | None,
    ) -> None:
        self.ask = ask
        self.outcome = Outcome()
        self.record_id: int | None = None
        self.undelivered: DatabaseError | None = None
        self.unfit: BrokenAnswer | None = None
        self._asking = asking
        self._reserve = reserve
        self._whole_answer = whole_answer
        self._turns = turns
        self._parts = parts
        self._check = check
        self._journal: Journal | None = None
        self._reply: Reply | None = None
        self._texts: Generator[str, None, None] | None = None

    def __enter__(self) -> Self:
        self._provider = self._asking.provider(self.ask)
        if self._asking.outbox is not None:
            self._journal = self._asking.outbox.open()
            try:
                self._journal.begin(self.ask)
                if self._reserve:
                    self.record_id = self._asking.store().keep(self.ask, self.outcome)
            except BaseException:
                self._journal.discard()
                raise
        return self

    def __iter__(self) -> Iterator[str]:
        from qacli.provider import Reply

        self._reply = Reply()
        self._texts = self._checked(
            self._provider.stream(
                self.ask,
                self._reply,
                whole_answer=self._whole_answer,
                turns=self._turns,
                parts=self._parts,
                on_arrival=self._keep_text,
            ),
            self._reply,
        )
        return self._texts

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has arrived, read or not."""
        return self._reply is not None and self._reply.answered_at is not None

    def follow_up(self, question: str) -> "Exchange":
        """A question about this answer, to be asked with all that went along with this one."""
        ask = replace(
            self.ask,
            question=question,
            follows_id=self.record_id,
            idempotency_key=None,
            uid=uuid4().hex,
            created_at=now(),
        )
        turn = Turn(self.ask.question, self.outcome.answer or "", self._parts)
        return self._asking.ask(
            ask,
            reserve=self._reserve,
            whole_answer=self._whole_answer,
            turns=[*self._turns, turn],
            check=self._check,
        )

    def _checked(
        self, texts: Generator[str, None, None], reply: "Reply"
    ) -> Generator[str, None, None]:
        yield from texts
        self._see_whether_fit(reply.text)
        if self.unfit is not None:
            raise self.unfit

    def _see_whether_fit(self, answer: str) -> None:
        if self._check is None or self.unfit is not None:
            return
        try:
            self._check(answer)
        except BrokenAnswer as error:
            self.unfit = error

    def _keep_text(self, text: str) -> None:
        if self._journal is not None:
            self._journal.text(self.ask.uid, text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._texts is not None:
            self._texts.close()
        self._conclude(error)
        if self._journal is None:
            return
        in_outbox = True
        try:
            self._journal.finish(self.ask.uid, self.outcome)
        except OSError:
            in_outbox = False  # the disk is full, say: the database may still take it
        try:
            self.record_id = self._asking.store().keep(self.ask, self.outcome)
        except DatabaseError as failure:
            self.undelivered = failure
            self._journal.close()
            if not in_outbox:
                raise DatabaseError(
                    f"The answer could not be kept: the outbox cannot be written, and {failure}",
                    "Save what was shown, and make room on the disk.",
                ) from error
        else:
            self._journal.discard()
        if isinstance(error, QaError):
            error.record_id = self.record_id

    def _conclude(self, error: BaseException | None) -> None:
        """Settle the outcome: an answer that is complete is one, whatever happened since."""
        if self._reply is not None:
            self.outcome = self._reply.outcome(self._asking.prices)
        outcome = self.outcome
        if outcome.status is Status.ANSWERED:
            # Whoever left before the end of it has not seen it checked.
            self._see_whether_fit(outcome.answer or "")
            if self.unfit is not None:
                outcome.status = Status.FAILED
                outcome.error = f"{self.unfit.kind}: {self.unfit.what}"
            return
        if isinstance(error, QaError) and not isinstance(error, Interrupted):
            outcome.status = Status.FAILED
            outcome.error = f"{error.kind}: {error.what}"
        elif error is None or not isinstance(error, Exception) or isinstance(error, Interrupted):
            outcome.status = Status.INTERRUPTED
            outcome.error = "interrupted: stopped before the answer was complete"
        else:
            outcome.status = Status.FAILED
            outcome.error = f"unexpected: {type(error).__name__}"


def turns_before(store: "Store", follows_id: int, budget: int) -> tuple[list[Turn], int]:
    """What a follow-up of a record goes on from, and how many older turns had no room.

    Args:
        store: The history.
        follows_id: The record.
        budget: About how many tokens the turns may take together; the oldest are left out first.

    Raises:
        NotFound: There is no such record.
        InvalidRequest: It has no answer to go on from.
    """
    thread = store.thread(follows_id)
    if thread[-1].answer is None:
        raise InvalidRequest(
            f"Record {follows_id} has no answer to go on from.", "Follow up another."
        )
    turns: list[Turn] = []
    left = budget
    for record in reversed(thread):
        left -= estimated_tokens(record.question + (record.answer or ""))
        if left < 0 and turns:
            break
        turns.append(Turn(record.question, record.answer or "", mentioned(record.attachments)))
    return turns[::-1], len(thread) - len(turns)


def deliver(outbox: Outbox, store: "Store") -> int:
    """Bring what other processes left in the outbox into the history; returns how many.

    Raises:
        DatabaseError: The database is gone; all that it has not got stays in the outbox.
    """
    delivered = 0
    for journal in outbox.left_behind():
        refused = False
        for entry in journal.entries():
            try:
                if entry.ask.batch_id is not None:
                    store.keep_items(entry.ask.batch_id, [(entry.ask, entry.outcome())])
                else:
                    store.keep(entry.ask, entry.outcome())
                delivered += 1
            except RecordRefused:
                refused = True
        # A person may want what the database will never take.
        journal.set_aside() if refused else journal.discard()
    return delivered

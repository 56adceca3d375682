"""The use case: a question in, a recorded answer out. Joins provider, outbox and store.

The order is what keeps the promise: noted in the outbox, asked, each piece noted as it arrives,
the outcome noted, kept in the database, and only then dropped from the outbox. Whatever happens
in between, the next command finds either the record or the note.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from qacli.attachments import mentioned
from qacli.errors import (
    DatabaseError,
    InvalidRequest,
    QaError,
    RecordRefused,
    UnfitAnswer,
)
from qacli.exchange import Accepted, Ask, Outcome, Part, Status, Turn, now
from qacli.keeping import History, Keeping, OwnJournal, linked
from qacli.outbox import Entry, LeftBehind, Outbox
from qacli.prices import Prices, estimated_tokens

if TYPE_CHECKING:
    from qacli.models import QuestionAnswer
    from qacli.provider import Provider, Reply
    from qacli.store import Store


Watch = Callable[[Ask], Callable[[Outcome], None]]
"""Told of a question that is asked; what it gives is told the outcome."""


def unwatched(_ask: Ask) -> Callable[[Outcome], None]:
    """Nobody wants to know."""
    return lambda _outcome: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is needed to ask and keep.

    Attributes:
        provider: Gives a provider for a question's model.
        outbox: Where questions wait for the database; None asks without keeping anything.
        store: Opens the history, or gives the open one; called only when an answer is to be kept,
            so that a request need not wait until the database layer is loaded.
        prices: For the cost of an answer.
        keeper: Keeps what any number of threads ask together, in place of a journal for each.
        watch: Told of each question and its outcome, for metrics and traces.
    """

    provider: Callable[[Ask], "Provider"]
    outbox: Outbox | None
    store: Callable[[], History]
    prices: Prices = field(default_factory=Prices)
    keeper: Keeping | None = None
    watch: Watch = unwatched

    def ask(  # noqa: PLR0913 - what asking is, by name
        self,
        ask: Ask,
        *,
        reserve: bool = False,
        whole_answer: bool = False,
        turns: Sequence[Turn] = (),
        parts: Sequence[Part] = (),
        check: Callable[[str], None] | None = None,
        beat: float | None = None,
        as_sent: Ask | None = None,
    ) -> "Exchange":
        """An exchange to be entered and read; see there.

        Args:
            ask: The question.
            reserve: Keep a record in the state `asking` first, so that it has an id at once; then
                a database that is down is an error before anything is asked.
            whole_answer: Ask for the answer in one piece instead of a stream.
            turns: What it follows up, as `turns_before` finds it.
            parts: What is put before it, and is no part of it.
            check: Raises UnfitAnswer for a whole answer that is not what was asked for; the
                record is a failed one then, with all of the answer.
            beat: Seconds of silence after which the exchange gives an empty text.
            as_sent: The question as it goes to the provider, where that holds more than is kept.
        """
        return Exchange(
            self,
            ask,
            reserve=reserve,
            whole_answer=whole_answer,
            turns=turns,
            parts=parts,
            check=check,
            beat=beat,
            as_sent=as_sent,
        )

    def keeping(self) -> Keeping | None:
        """What keeps the next question."""
        if self.keeper is not None:
            return self.keeper
        return None if self.outbox is None else OwnJournal(self.outbox, self.store)


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
        beat: float | None,
        as_sent: Ask | None,
    ) -> None:
        self.ask = ask
        self.outcome = Outcome()
        self.record_id: int | None = None
        self.undelivered: DatabaseError | None = None
        self.unfit: UnfitAnswer | None = None
        self._asking = asking
        self._reserve = reserve
        self._whole_answer = whole_answer
        self._turns = turns
        self._parts = parts
        self._check = check
        self._beat = beat
        self._as_sent = as_sent or ask
        self._keeping: Keeping | None = None
        self._reply: Reply | None = None
        self._texts: Generator[str, None, None] | None = None

    def __enter__(self) -> Self:
        self._provider = self._asking.provider(self.ask)
        keeping = self._asking.keeping()
        if keeping is not None:
            self.record_id = keeping.begin(self.ask, reserve=self._reserve)
            self._keeping = keeping
        self._tell = self._asking.watch(self.ask)
        return self

    def __iter__(self) -> Iterator[str]:
        from qacli.provider import Reply

        self._reply = Reply()
        self._texts = self._checked(
            self._provider.stream(
                self._as_sent,
                self._reply,
                whole_answer=self._whole_answer,
                turns=self._turns,
                parts=self._parts,
                on_arrival=self._keep_text,
                beat=self._beat,
            ),
            self._reply,
        )
        return self._texts

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
            beat=self._beat,
        )

    def corrected(self) -> "Exchange | None":
        """What asks once more where the whole answer did not fit; None where that is no help."""
        from qacli.structure import correction

        # What the token limit has cut would be cut again, and an endless check has no end.
        if self.unfit is None or self.unfit.fatal or self.outcome.finish_reason == "length":
            return None
        return self.follow_up(correction(self.unfit))

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
        except UnfitAnswer as error:
            self.unfit = error

    def _keep_text(self, text: str) -> None:
        if self._keeping is not None:
            self._keeping.text(self.ask.uid, text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._texts is not None:
            self._texts.close()
        self._conclude(error)
        self._tell(self.outcome)
        if self._keeping is None:
            return
        try:
            record_id, self.undelivered = self._keeping.end(self.ask, self.outcome)
        except DatabaseError as failure:
            raise failure from error
        except (KeyboardInterrupt, SystemExit):
            # Whoever does not wait for the database wants to know where the answer is.
            self.undelivered = DatabaseError("The database has not said yet that it has it.")
            raise
        self.record_id = record_id or self.record_id
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
                outcome.end(self.unfit)
        else:
            outcome.end(error)


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


def kept_answer(
    store: "Store",
    ask: Ask,
    *,
    since: datetime | None = None,
    check: Callable[[str], None] | None = None,
) -> "QuestionAnswer | None":
    """The newest answer that is kept for the very same question, so that it need not be asked.

    Args:
        store: The history.
        ask: The question; see `Store.same` for what is the same.
        since: Only if it was asked then or later.
        check: Raises UnfitAnswer for an answer that is not what was asked for.
    """
    found = store.same(ask)
    if found is None or not found.answer or (since is not None and found.created_at < since):
        return None
    try:
        if check is not None:
            check(found.answer)
    except UnfitAnswer:
        return None
    return found


def deliver(
    outbox: Outbox,
    store: "Store",
    again: Callable[[Accepted], bool] = lambda _ask: False,
    report: Callable[[str], None] | None = None,
) -> int:
    """Bring what other processes left in the outbox into the history; returns how many.

    A journal is deleted once the history has all that is in it. One with parts that cannot be
    read, or that the history does not take, is renamed, and `report` is called with where it is.

    Args:
        outbox: Where they left it.
        store: The history.
        again: Asks again what was accepted and has no answer, once it is noted anew; says whether
            it has done so. What it has not stays in the outbox, for a server to ask.
        report: Called with a sentence for each journal that a person should look at; without it
            such a journal stays where it is, for a caller that has one.

    Raises:
        DatabaseError: The database is gone; all that it has not got stays in the outbox.
    """
    delivered = 0
    for journal in outbox.left_behind():
        try:
            contents = journal.read()
        except OSError as error:
            if report is not None:
                report(_left_in_place(journal, error))
            continue
        problems, is_due = list(contents.problems), False
        for entry in contents.entries:
            if entry.finished is None and isinstance(entry.ask, Accepted):
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


def _report_unopenable(outbox: Outbox, report: Callable[[str], None]) -> None:
    """Report each journal that cannot be opened; what is no file is set aside."""
    for journal, error in outbox.unopenable():
        if journal.is_file:
            report(_left_in_place(journal, error))
        else:
            _clear_away(journal, ["it is no file"], report)


def _deliver_entry(entry: Entry, store: "Store") -> str | None:
    """Keep one question of a journal; returns why the history has not got all of it, or None."""
    outcome = entry.outcome()
    try:
        if entry.ask.batch_id is not None:
            store.keep_items(entry.ask.batch_id, [(entry.ask, outcome)])
        else:
            store.keep(linked(entry.ask, entry.follows_uid, store), outcome)
        record = store.of_uid(entry.ask.uid) if outcome.answer else None
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
    journal: LeftBehind, problems: list[str], report: Callable[[str], None] | None
) -> None:
    """Delete a journal that is delivered, or set it aside where there are problems with it."""
    try:
        if not problems:
            journal.discard()
        elif report is not None:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            report(
                f"Parts of a journal could not be delivered: {problems[0]}{more}. The rest is in "
                f"the history. The journal is kept as {journal.set_aside()}: look into it, it is "
                "text, and delete it when you need nothing more from it."
            )
    except OSError as error:
        if report is not None:
            report(_left_in_place(journal, error))


def _left_in_place(journal: LeftBehind, error: OSError) -> str:
    return (
        f"The journal {journal.path} cannot be read or moved: {error.strerror}. "
        "See that it and its directory are yours to read and write."
    )

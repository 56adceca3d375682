"""Read the events of an answer as the terminal does, and observe the provider."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

from qacli import domain
from qacli.domain import (
    AnswerEvent,
    ChatRequest,
    Delta,
    Failed,
    Heartbeat,
    Outcome,
    Question,
    Received,
    Repairing,
    Result,
    Started,
)
from qacli.provider.sync import SyncProvider

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from qacli.errors import DatabaseError
    from qacli.provider.response import ChatResponse


class ObservedProvider(SyncProvider):
    """A provider that reports whether the whole answer has arrived, even if it was not read."""

    reply: ChatResponse | None = None

    def stream(
        self, request: ChatRequest, response: ChatResponse, **options: Any
    ) -> Generator[Delta | Heartbeat]:
        self.reply = response
        return super().stream(request, response, **options)

    @property
    def is_complete(self) -> bool:
        return self.reply is not None and self.reply.answered_at is not None


class Exchange:
    """Read the events of an answer; an exception inside the context ends it and is recorded."""

    result: Result

    def __init__(self, events: Generator[AnswerEvent]) -> None:
        self.events = events
        self.is_received = False

    def __enter__(self) -> Self:
        started = next(self.events)
        assert isinstance(started, Started)
        self.result = Result(
            question=started.question, outcome=Outcome(), record_id=started.record_id
        )
        return self

    def __iter__(self) -> Iterator[str]:
        """Yield the text of the first answer, without that of a repair."""
        for event in self.events:
            if isinstance(event, Received):
                self.is_received = True
                return
            if isinstance(event, Delta):
                yield event.text

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        with closing(self.events):
            if error is not None:
                self.end(self.events.throw(error))
            elif not self.is_received:
                return
            for event in self.events:
                self.end(event)

    def end(self, event: AnswerEvent) -> None:
        if isinstance(event, domain.Finished | Repairing):
            self.result = event.result
        if isinstance(event, Failed):
            assert event.result is not None
            self.result = event.result
        if isinstance(event, Failed | Repairing):
            raise event.error

    @property
    def ask(self) -> Question:
        return self.result.question

    @property
    def outcome(self) -> Outcome:
        return self.result.outcome

    @property
    def record_id(self) -> int | None:
        return self.result.record_id

    @property
    def undelivered(self) -> DatabaseError | None:
        return self.result.undelivered

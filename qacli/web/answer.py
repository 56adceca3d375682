"""The answer to a question from an HTTP client, completed or recorded if the client disconnects.

A client reads the answer while it arrives, waits for all of it, or fetches it later; it may
disconnect at any time. `POST /ask`, the page and the OpenAI-compatible API all read their
answers from an `AnswerStream`.
"""

import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any

from qacli.cancellation import Cancellation
from qacli.db.records import Store
from qacli.domain import (
    AnswerEvent,
    ChatRequest,
    ContextPart,
    Failed,
    Finished,
    Outcome,
    Question,
    Result,
    Started,
    Turn,
)
from qacli.errors import QaError
from qacli.json_schema import AnswerSchema
from qacli.serializers import record_to_dict
from qacli.services.ask import wait_for_result
from qacli.services.context import load_context
from qacli.web.request_context import current_context
from qacli.web.state import AppState
from qacli.web.title import name_thread

LOG = logging.getLogger("qa.web")


class AnswerStream:
    """The events of an answer whose question has been recorded; always close it.

    Attributes:
        started: The first event.

    Args:
        events: All events.
        completes: Complete the answer in the background if it is closed before its end;
            otherwise it is recorded as interrupted.
    """

    def __init__(self, events: Generator[AnswerEvent], *, completes: bool) -> None:
        """Take the first event, which comes once the question is recorded.

        Raises:
            Busy: The server has as many questions in flight as it accepts.
            DatabaseError: The question cannot be recorded, so it is not sent.
            NotConfigured: There is no provider to ask.
        """
        started = next(events)
        assert isinstance(started, Started), "the first event"  # noqa: S101 - for the type checker
        current_context().record_id = started.record_id
        self.started = started
        self._events = events
        self._completes = completes

    def __iter__(self) -> Iterator[AnswerEvent]:
        """Yield the events after the first; an exception comes as `Failed`."""
        try:
            # Not `yield from`, which would close the events together with this iterator: they
            # are still needed to complete the answer of a client that disconnected.
            for event in self._events:  # noqa: UP028
                yield event
        except Exception as error:  # noqa: BLE001 - every reader reports it like any other failure
            yield Failed(error)

    def result(self) -> Result:
        """Wait for the whole answer.

        Raises:
            QaError: There is no usable answer; it names the record.
        """
        return wait_for_result(self._events)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as it was when the question was recorded."""
        return record_to_dict(self.started.question, Outcome(), self.started.record_id)

    def complete_in_background(self) -> None:
        """Complete the answer in a thread; the process waits for it before it ends."""
        threading.Thread(target=self._complete, name="qa-answer", daemon=False).start()

    def close(self) -> None:
        """Stop reading; after the last event this does nothing."""
        if getgeneratorstate(self._events) == GEN_CLOSED:
            return
        if self._completes:
            self.complete_in_background()
        else:
            self._events.close()

    def _complete(self) -> None:
        try:
            # There may be no event left, if the client disconnected during the last one.
            for event in self._events:
                if isinstance(event, Failed):
                    raise event.error  # noqa: TRY301 - logged like any other failure
        except QaError as error:
            LOG.warning("record %s: %s", error.record_id or self.started.record_id, error)
        except Exception:
            LOG.exception("record %s could not be completed", self.started.record_id)


def start_answer(
    state: AppState,
    question: Question,
    store: Store,
    *,
    parts: Sequence[ContextPart] = (),
    heartbeat_seconds: float | None = None,
) -> AnswerStream:
    """Start to answer a question, with its thread and the schema in its params.

    Args:
        state: The application's state.
        question: The question.
        store: The history with the record that the question follows up.
        parts: The files that are sent before the question.
        heartbeat_seconds: See `start_request`.

    Raises:
        InvalidRequest: The record that the question follows up has no answer.
        NotFound: There is no such record.
        QaError: See `AnswerStream`.
    """
    shape = question.params.get("response_format")
    turns: list[Turn] = []
    if question.follows_id is not None:
        turns, _ = load_context(store, question.follows_id, state.context_tokens)
    return start_request(
        state,
        question,
        ChatRequest(question=question, turns=turns, parts=parts),
        schema=AnswerSchema(shape["json_schema"]["schema"]) if shape else None,
        heartbeat_seconds=heartbeat_seconds,
        names_thread=True,
    )


def start_request(  # noqa: PLR0913 - one more option by name
    state: AppState,
    question: Question,
    request: ChatRequest,
    *,
    schema: AnswerSchema | None = None,
    heartbeat_seconds: float | None = None,
    names_thread: bool = False,
) -> AnswerStream:
    """Start to answer a question with this request to the provider.

    Args:
        state: The application's state.
        question: The question, as it is recorded.
        request: The request to the provider.
        schema: The schema that the answer must fit.
        heartbeat_seconds: Seconds of silence after which a `Heartbeat` comes. None for a
            client that waits for the whole answer: its thread wakes up once, at the end.
        names_thread: Let a model name the thread afterwards, if the settings enable that.

    Raises:
        QaError: See `AnswerStream`.
    """
    context = current_context()
    if context.identity is not None:
        # A resumed question has no request here; it keeps the caller of its original request.
        question = replace(question, caller=context.caller, request_id=context.request_id)
    cancellation = Cancellation()
    events = state.ask_service.stream(
        question,
        replace(request, cancellation=cancellation),
        reserve=True,
        check=schema.check if schema else None,
        heartbeat_seconds=heartbeat_seconds,
        deltas=heartbeat_seconds is not None,
    )
    completes = state.on_disconnect != "interrupt"
    events = _in_slot(state, events, cancellation, names_thread=names_thread)
    return AnswerStream(events, completes=completes)


def _in_slot(
    state: AppState,
    events: Generator[AnswerEvent],
    cancellation: Cancellation,
    *,
    names_thread: bool,
) -> Generator[AnswerEvent]:
    """Yield the events; until the last one, the question counts as in flight."""
    uid = ""
    try:
        with state.slot(), state.in_flight.track(), closing(events):
            for event in events:
                if isinstance(event, Finished | Failed):
                    break
                if isinstance(event, Started):
                    state.live.remove(uid)
                    uid = event.question.uid
                    state.live.add(uid, event.record_id, cancellation)
                yield event
    finally:
        state.live.remove(uid)
    if names_thread and isinstance(event, Finished):
        name_thread(state, event.result)
    yield event

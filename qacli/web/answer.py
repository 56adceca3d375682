"""A question being answered for somebody who may leave in the middle.

Whoever asks over HTTP reads the answer as it arrives, or waits for all of it, or comes back for
it later; and any of them may hang up. What was asked is answered, or kept as interrupted, all the
same: that does not depend on who is still there. `POST /ask`, the page and the OpenAI-compatible
door all read their answers from an `ResponseSpec`.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any, Self

from qacli.db.records import Store
from qacli.domain import ChatRequest, Question, Turn
from qacli.errors import QaError, UnfitAnswer
from qacli.json_schema import AnswerSchema
from qacli.serializers import record_to_dict
from qacli.services.ask import AskSession
from qacli.services.context import load_context
from qacli.web.request_context import current_context
from qacli.web.state import AppState

LOG = logging.getLogger("qa.web")


def make_answer(
    service: AppState, ask: Question, store: Store, *, beat: float | None = None
) -> "LiveAnswer":
    """Return what answers a question, with its thread and the schema in its params.

    Args:
        service: What is needed to ask.
        ask: The question.
        store: The history in which the record that it follows up is looked for.
        beat: See `ResponseSpec`.

    Raises:
        InvalidRequest: Its schema cannot be used, or the record that it follows up has no answer.
        NotFound: What it follows up is not there.
    """
    shape = ask.params.get("response_format")
    turns: list[Turn] = []
    if ask.follows_id is not None:
        turns, _ = load_context(store, ask.follows_id, service.context_tokens)
    structure = AnswerSchema(shape["json_schema"]["schema"]) if shape else None
    request = ChatRequest(question=ask, turns=turns)
    return LiveAnswer(service, ask, request, structure=structure, beat=beat)


class AnswerStream(ABC):
    """What is started, read piece by piece, and closed: an answer, wherever it comes from."""

    _pieces: Generator[str, None, None]

    def begin(self) -> Self:
        """Keep the question; from here on it has a record, and is asked once it is read.

        Raises:
            Busy: There are as many questions in flight as there may be.
            DatabaseError: It cannot be kept, so it is not asked.
            NotConfigured: There is no provider to ask.
        """
        next(self._pieces)
        current_context().record_id = self.record_id
        return self

    def __iter__(self) -> Iterator[str]:
        """The text.

        Raises:
            QaError: There is no usable answer; it names the record.
        """
        return self._pieces

    def result(self) -> dict[str, Any]:
        """Wait for all of it; gives the record.

        Raises:
            QaError: There is no usable answer; it names the record.
        """
        for _ in self._pieces:
            pass
        return self.to_dict()

    @property
    @abstractmethod
    def record_id(self) -> int | None:
        """The record's id."""

    @property
    @abstractmethod
    def created_at(self) -> datetime:
        """When it was asked."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The record, complete once the text has been read."""

    @abstractmethod
    def complete_in_background(self) -> None:
        """Nobody waits for it any more, and it is completed all the same."""

    @abstractmethod
    def close(self) -> None:
        """Whoever read it has left; after its end that changes nothing."""


class LiveAnswer(AnswerStream):
    """One question being answered: start it, read the text, and see that it is closed.

    What is read are pieces of text, and an empty one for every `beat` of silence: a moment to see
    whether the reader is still there. When it is closed before its end (a client has left), the
    setting `on_disconnect` decides whether it is completed in the background or kept as
    interrupted. An answer that must fit a schema is given in one piece, once it does; one that
    does not is corrected once, in a record of its own.

    Args:
        service: What is needed to ask.
        asked: The question.
        request: The request to the provider.
        structure: What the answer must fit.
        beat: Seconds of silence after which an empty text is given; None gives none.
    """

    def __init__(
        self,
        service: AppState,
        asked: Question,
        request: ChatRequest,
        *,
        structure: AnswerSchema | None = None,
        beat: float | None = None,
    ) -> None:
        self._service = service
        self._schema = structure
        self._heartbeat_seconds = beat
        known = current_context()
        if known.identity is not None:
            # Else it is asked again for the caller of an earlier request, which it names.
            asked = replace(asked, caller=known.caller, request_id=known.request_id)
        self._session = service.ask_service.ask(
            asked,
            request,
            reserve=True,
            check=structure.check if structure else None,
            beat=beat,
        )
        self._pieces = self._run()
        self._ended = False

    @property
    def record_id(self) -> int | None:
        """The record's id; another one once an answer that did not fit is being corrected."""
        return self._session.record_id

    @property
    def created_at(self) -> datetime:
        """When it was asked."""
        return self._session.ask.created_at

    def to_dict(self) -> dict[str, Any]:
        """The record, complete once the text has been read."""
        return record_to_dict(self._session.ask, self._session.outcome, self.record_id)

    def complete_in_background(self) -> None:
        """Complete it in the background: nobody waits for it.

        The thread is one that the process waits for before it ends.
        """
        threading.Thread(target=self._finish, name="qa-answer", daemon=False).start()

    def close(self) -> None:
        """Whoever read it has left; after its end that changes nothing."""
        if self._ended:
            return
        if self._service.on_disconnect == "interrupt":
            self._pieces.close()
        else:
            self.complete_in_background()

    def _finish(self) -> None:
        try:
            self.result()
        except QaError as error:
            LOG.warning("record %s: %s", self.record_id, error)
        except Exception:
            LOG.exception("record %s could not be completed", self.record_id)

    def _run(self) -> Generator[str, None, None]:
        try:
            with self._service.slot(), self._service.in_flight.track():
                again = yield from self._ask_once()
                if again is not None:
                    self._session = again
                    yield from self._ask_once(may_correct=False)
        finally:
            self._ended = True

    def _ask_once(self, *, may_correct: bool = True) -> Generator[str, None, AskSession | None]:
        """Ask once; returns what asks for a correction, where one is due."""
        exchange = self._session
        texts = []
        try:
            with exchange:
                yield ""  # it is kept now, and has an id
                if self._schema is None:
                    yield from exchange
                else:
                    texts = yield from self._buffered(exchange)
        except UnfitAnswer as error:
            again = exchange.repair() if may_correct and error is exchange.schema_error else None
            if again is None:
                raise
            return again
        if texts:
            yield "".join(texts)
        return None

    def _buffered(self, exchange: AskSession) -> Generator[str, None, list[str]]:
        """Read all of it and give nothing but the beat: what it is worth is known at its end."""
        texts, last = [], monotonic()
        for text in exchange:
            texts.append(text)
            if (
                self._heartbeat_seconds is not None
                and monotonic() - last >= self._heartbeat_seconds
            ):
                last = monotonic()
                yield ""
        return texts

"""State that the routes of one process share: provider, database pool and outbox."""

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import current_app

from qacli.config.settings import Settings
from qacli.cost import Pricing
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.domain import AnswerEvent, Failed, Outcome, Question
from qacli.errors import (
    Busy,
    InvalidRequest,
    NotConfigured,
    QaError,
    Unauthorized,
)
from qacli.provider import endpoint
from qacli.raw_request import RawRequest
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import Recorder
from qacli.services.ask import AskService, Observer
from qacli.web.request_context import current_context
from qacli.web.shutdown import DrainTracker
from qacli.web.upstreams import OWN, Upstreams

LOG = logging.getLogger("qa.web")
EXTENSION_KEY = "qa"
DEFAULT_MODEL_ALIAS = "default"
"""The name by which a client leaves the model to this server."""

TOTAL_CONNECTIONS = 64
"""Database connections of all workers together; PostgreSQL's default is 100 for all clients."""

MAX_WORKER_CONNECTIONS = 10
"""Database connections of one worker: reads are quick, and all writes share one."""


class AppState:
    """One process's provider, database pool and outbox.

    Attributes:
        system: The system prompt of a question that has none.
        context_tokens: The tokens of a thread that are sent with a follow-up.
        timeout: Seconds for one answer.
        max_body: The bytes of a body at `/v1` at most.
        on_disconnect: `complete` or `interrupt` an answer whose client has disconnected.
        all_records: The history of all callers, for code outside of a request; no route uses it.
            It is not opened yet: a server also starts while the database is down.
        ask_service: Asks questions and records them.
        observers: Called with each question and its outcome.
        in_flight: The answers that the process completes before it ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.system = settings.system
        self.context_tokens = settings.context_tokens
        self.on_disconnect = settings.on_disconnect
        self.timeout = settings.timeout
        self.max_body = settings.max_body_mib * 1024 * 1024
        connections = min(max(TOTAL_CONNECTIONS // settings.workers, 2), MAX_WORKER_CONNECTIONS)
        self.all_records = Store(settings.database, connections=connections)
        self.outbox = Outbox(settings.outbox_path)
        self.ask_service = AskService(
            provider=lambda question: self.upstreams.provider(question.model),
            outbox=self.outbox,
            store=lambda: self.all_records,
            prices=Pricing.load(settings.prices_path),
            shared_recorder=Recorder(self.outbox, lambda: self.all_records),
            observer=self._observe,
        )
        self.observers: list[Observer] = []
        self.in_flight = DrainTracker()
        self._slots = threading.BoundedSemaphore(settings.threads)
        self._limit = settings.threads
        self.upstreams = Upstreams(settings, connections=self._limit)

    def _observe(self, question: Question) -> Callable[[Outcome], None]:
        callbacks: list[Callable[[Outcome], None]] = []
        for observer in self.observers:
            with _log_exceptions():
                callbacks.append(observer(question))

        def report(outcome: Outcome) -> None:
            for callback in callbacks:
                with _log_exceptions():
                    callback(outcome)

        return report

    @property
    def store(self) -> Store:
        """The history as the caller of the current request sees it.

        Raises:
            Unauthorized: The request has not been authenticated, or there is no request.
        """
        identity = current_context().identity
        if identity is None:
            raise Unauthorized("The request has not been authenticated.", "Send a token.")
        return self.all_records.visible_to(identity.owner)

    def warm_up(self) -> None:
        """Make the provider in the background, so that the first question does not wait for it."""

        def load() -> None:
            with suppress(NotConfigured):
                self.upstreams.connect(OWN)

        threading.Thread(target=load, name="qa-warm-up", daemon=True).start()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count one question in flight; the spare threads stay free for all other requests.

        Raises:
            Busy: The server has as many questions in flight as it accepts.
        """
        if not self._slots.acquire(blocking=False):
            raise Busy(
                f"{self._limit} questions are being answered, as many as this server takes.",
                "Ask again in a moment.",
            )
        try:
            yield
        finally:
            self._slots.release()

    def model(self, name: str | None) -> str:
        """Return the model to ask: this one if a request may choose it, or the default for None.

        Raises:
            InvalidRequest: It is a local file; clients may not choose which files are opened.
            NotConfigured: There is no provider to ask.
        """
        if name is not None:
            name = self._settings.aliases.get(name, name)
        if name is None or name == DEFAULT_MODEL_ALIAS:
            return self._default_model()
        is_local = name.partition(":")[0] == endpoint.LOCAL
        if is_local and not (name == endpoint.LOCAL and self.upstreams.has_local):
            raise InvalidRequest(
                "A local model cannot be chosen by a request.",
                "Start the server with it: qa serve --model local:/path.gguf, or allow the model "
                "`local` with QA_UPSTREAMS=local.",
            )
        return name

    def default_params(self, model: str) -> dict[str, Any]:
        """Return the options for a model where a request does not set them."""
        return self._settings.default_params(model)

    def relay(
        self, raw: RawRequest, *, heartbeat_seconds: float | None = None
    ) -> Generator[AnswerEvent]:
        """Pass a request on to the provider without a record, and yield the response.

        The last event is `Failed` if there is no whole response.

        Raises:
            Busy: See `slot`.
            NotConfigured: There is no provider to ask.
        """
        with self.slot(), self.in_flight.track():
            events = self.upstreams.provider(raw.model).relay(
                raw, heartbeat_seconds=heartbeat_seconds
            )
            try:
                yield from events
            except QaError as error:
                yield Failed(error)

    def endpoint_name(self, record: QuestionAnswer) -> str:
        """Return the name of the endpoint that a follow-up of a record asks, as records have it.

        Raises:
            NotConfigured: There is no provider to ask.
        """
        names = self.upstreams.endpoint_names(str(record.params.get("model", "")))
        return record.endpoint if record.endpoint in names else names[0]

    def _default_model(self) -> str:
        name = self._settings.model_name(None)
        if name is not None and self.upstreams.targets(name)[0].upstream != OWN:
            return name
        return endpoint.resolve_endpoint(self._settings, with_key=False).model

    def models(self) -> list[dict[str, Any]]:
        """Return the models that can be used: the default first, then the provider's list.

        Raises:
            Busy: See `slot`.
            ProviderError: The provider cannot be reached; a provider without a list is accepted.
            NotConfigured: There is no provider to ask.
        """
        with self.slot():
            models = self.upstreams.models()
        default = self._default_model()
        first = [model for model in models if model["id"] == default] or [{"id": default}]
        return first + [model for model in models if model["id"] != default]


def get_state() -> AppState:
    """Return the state of the application that handles the request."""
    app_state: AppState = current_app.extensions[EXTENSION_KEY]
    return app_state


@contextmanager
def _log_exceptions() -> Iterator[None]:
    """Log and ignore exceptions raised by observers (metrics, tracing)."""
    try:
        yield
    except Exception:
        LOG.exception("a question could not be counted or traced")

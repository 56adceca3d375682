"""State that the routes of one process share: provider, database pool and outbox."""

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import current_app

from qacli.config.defaults import LOCAL
from qacli.config.settings import Settings
from qacli.config.upstreams import load_upstreams
from qacli.cost import Pricing
from qacli.db.records import Store
from qacli.domain import AnswerEvent, Failed, Outcome, Question
from qacli.errors import (
    Busy,
    InvalidRequest,
    QaError,
    Unauthorized,
)
from qacli.provider import endpoint
from qacli.provider.gate import Gate, NoGate
from qacli.raw_request import RawRequest
from qacli.recording.outbox import Outbox
from qacli.services.ask import AskService, Observer
from qacli.web.live_answers import LiveAnswers, LiveRecorder
from qacli.web.providers import Providers
from qacli.web.request_context import current_context
from qacli.web.shutdown import DrainTracker

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer

LOG = logging.getLogger("qa.web")
EXTENSION_KEY = "qa"
DEFAULT_MODEL_ALIAS = "default"
"""The name by which a client leaves the model to this server."""

TOTAL_CONNECTIONS = 64
"""Database connections of all workers together; PostgreSQL's default is 100 for all clients."""

MAX_WORKER_CONNECTIONS = 10
"""Database connections of one worker: reads are quick, and all writes share one."""


class AppState:
    """The parts of one server process that its requests share.

    Attributes:
        system: The system prompt of a question that has none.
        context_tokens: The tokens of a thread that are sent with a follow-up.
        auto_title: Let a model name each thread after its first answer.
        title_model: That model; None for the model of the answer.
        streams: Ask for a title as a stream.
        timeout: Seconds for one answer.
        max_body: The bytes of a body at `/v1` at most.
        providers: The server's own provider and its upstreams.
        on_disconnect: `complete` or `interrupt` an answer whose client has disconnected.
        all_records: The history of all callers, for code outside of a request; no route uses it.
            It is not opened yet: a server also starts while the database is down.
        ask_service: Asks questions and records them.
        observers: Called with each question and its outcome.
        in_flight: The answers that the process completes before it ends.
        live: The text so far of these answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.system = settings.system
        self.context_tokens = settings.context_tokens
        self.on_disconnect = settings.on_disconnect
        self.auto_title = settings.auto_title
        self.title_model = settings.title_model
        self.streams = settings.stream
        self.timeout = settings.timeout
        self.max_body = settings.max_body_mib * 1024 * 1024
        connections = min(max(TOTAL_CONNECTIONS // settings.workers, 2), MAX_WORKER_CONNECTIONS)
        self.all_records = Store(settings.database, connections=connections)
        self.providers = Providers(load_upstreams(settings), settings.threads, self._make_gate)
        self.outbox = Outbox(settings.outbox_path)
        self.live = LiveAnswers(lambda: self.all_records)
        self.ask_service = AskService(
            provider=lambda question: self.providers.choose(question.model),
            outbox=self.outbox,
            store=lambda: self.all_records,
            prices=Pricing.load(settings.prices_path),
            shared_recorder=LiveRecorder(self.live, self.outbox, lambda: self.all_records),
            observer=self._observe,
        )
        self.observers: list[Observer] = []
        self.in_flight = DrainTracker()
        self._slots = threading.BoundedSemaphore(settings.threads)
        self._limit = settings.threads

    def _make_gate(self, of_endpoint: endpoint.Endpoint) -> Gate:
        """Return the gate before an endpoint, which shares its limits if the settings say so."""
        max_wait = self._settings.shared_limits
        if max_wait is None:
            return NoGate()
        from qacli.db.shared_limits import SharedLimits
        from qacli.web.shared_limits import SharedLimitGate

        limits = SharedLimits(self.all_records)
        return SharedLimitGate(limits, of_endpoint, jobs=self._limit, max_wait=max_wait)

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

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count one question as in flight during the `with` block.

        The number is limited, so that threads stay free for all other requests.

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
            InvalidRequest: The model is a local file, and clients may not choose which files are
                opened; or no upstream has it.
            NotConfigured: There is no provider to ask.
        """
        default = self._default_model()
        if name is not None:
            name = self._settings.aliases.get(name, name)
        if name is None or name in {default, DEFAULT_MODEL_ALIAS}:
            return default
        upstreams = self.providers.upstreams
        if name.partition(":")[0] == LOCAL and name not in upstreams.names:
            raise InvalidRequest(
                "A local model cannot be chosen by a request.",
                "Start the server with it: qa serve --model local:/path.gguf, or with "
                "QA_UPSTREAMS=local",
            )
        upstreams.route(name)
        return name

    def default_params(self, model: str) -> dict[str, Any]:
        """Return the options for a model where a request does not set them."""
        return self.providers.default_params(model)

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
            providers = self.providers
            provider = providers.choose(raw.model) if raw.model else providers.without_model()
            events = provider.relay(raw, heartbeat_seconds=heartbeat_seconds)
            try:
                yield from events
            except QaError as error:
                yield Failed(error)

    def endpoint_before(self, record: "QuestionAnswer") -> str:
        """Return the name of the endpoint of a record, if its follow-up may be answered there too.

        Otherwise it is that of the default model.

        Raises:
            NotConfigured: There is no provider to ask.
        """
        model = str(record.params.get("model", ""))
        if record.endpoint is not None and record.endpoint in self.providers.endpoint_names(model):
            return record.endpoint
        return self.providers.first_endpoint_name(self._default_model())

    def is_elsewhere(self, record: "QuestionAnswer", model: str) -> bool:
        """Return whether a record was answered by another endpoint than the first for a model."""
        name = self.providers.first_endpoint_name(model)
        return record.endpoint is not None and record.endpoint != name

    def _default_model(self) -> str:
        upstreams = self.providers.upstreams
        if not upstreams.has_own:
            return upstreams.default_name()
        return endpoint.resolve_endpoint(self._settings, with_key=False).model

    def models(self) -> list[dict[str, Any]]:
        """Return the models that can be used: the default first, then the providers' lists.

        Raises:
            Busy: See `slot`.
            ProviderError: See `Providers.models`.
            NotConfigured: There is no provider to ask.
        """
        default = self._default_model()
        with self.slot():
            models, away = self.providers.models()
        first = [model for model in models if model["id"] == default]
        if not first and self.providers.is_present(default, away):
            first = [{"id": default}]
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

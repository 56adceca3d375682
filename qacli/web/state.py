"""What the routes share: one process's provider, database pool and outbox."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from time import monotonic
from typing import Any

from flask import current_app

from qacli.config.settings import Settings
from qacli.cost import Pricing
from qacli.db.records import Store
from qacli.domain import Outcome, Question
from qacli.errors import (
    Busy,
    InvalidRequest,
    NotConfigured,
    ProviderRefused,
    Unauthorized,
)
from qacli.provider import endpoint
from qacli.provider.sync import SyncProvider
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import Recorder
from qacli.services.ask import AskService, Observer
from qacli.web.request_context import current_context
from qacli.web.shutdown import DrainTracker

LOG = logging.getLogger("qa.web")
EXTENSION_KEY = "qa"
TOTAL_CONNECTIONS = 64
"""To the database, of all workers together: PostgreSQL takes 100 by default, for everybody."""

MAX_WORKER_CONNECTIONS = 10
"""Of one worker: reading is quick, and all writing goes through one."""


class AppState:
    """One process's provider, database pool and outbox.

    Attributes:
        system: The system prompt of a question that brings none.
        context_tokens: How much of a thread a follow-up takes along.
        timeout: Seconds for one answer.
        on_disconnect: Whether an answer whose reader has left is completed, or interrupted.
        all_records: The history, of all callers: for what runs outside of a request, and for no
            route. It is not opened yet: a server outlives a database that is away.
        asking: The use case.
        watches: Told of each question and its outcome.
        in_flight: The answers that the process waits for before it ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.system = settings.system
        self.context_tokens = settings.context_tokens
        self.on_disconnect = settings.on_disconnect
        self.timeout = settings.timeout
        connections = min(max(TOTAL_CONNECTIONS // settings.workers, 2), MAX_WORKER_CONNECTIONS)
        self.all_records = Store(settings.database, connections=connections)
        self.outbox = Outbox(settings.outbox_path)
        self.ask_service = AskService(
            provider=lambda _ask: self._provider,
            outbox=self.outbox,
            store=lambda: self.all_records,
            prices=Pricing.load(settings.prices_path),
            shared_recorder=Recorder(self.outbox, lambda: self.all_records),
            observer=self._observe,
        )
        self.observers: list[Observer] = []
        self.in_flight = DrainTracker()
        self._places = threading.BoundedSemaphore(settings.threads)
        self._limit = settings.threads
        self._making = threading.Lock()
        self._cached_provider: SyncProvider | None = None
        self._provider_error: NotConfigured | None = None
        self._failed_at = 0.0

    def _observe(self, ask: Question) -> Callable[[Outcome], None]:
        told: list[Callable[[Outcome], None]] = []
        for watch in self.observers:
            with _log_exceptions():
                told.append(watch(ask))

        def tell(outcome: Outcome) -> None:
            for each in told:
                with _log_exceptions():
                    each(outcome)

        return tell

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

    @property
    def _provider(self) -> SyncProvider:
        if self._cached_provider is not None:
            return self._cached_provider
        began = monotonic()
        with self._making:
            if self._cached_provider is None:
                if self._provider_error is not None and self._failed_at > began:
                    # Whoever has waited for it does not try once more, one after the other.
                    raise copy(self._provider_error)
                try:
                    self._cached_provider = self._make()
                except NotConfigured as error:
                    self._provider_error, self._failed_at = copy(error), monotonic()
                    raise
            return self._cached_provider

    def _make(self) -> SyncProvider:
        found = endpoint.resolve_endpoint(self._settings)
        if not found.base_url:
            raise NotConfigured("The local model is not running.", "See the server's log.")
        return SyncProvider(found, self._settings, connections=self._limit)

    def warm_up(self) -> None:
        """Load in the background what asking needs, so that the first question need not wait."""

        def load() -> None:
            with suppress(NotConfigured):
                _ = self._provider

        threading.Thread(target=load, name="qa-warm-up", daemon=True).start()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One of the questions in flight; there are always threads left for everything else.

        Raises:
            Busy: There are as many as there may be.
        """
        if not self._places.acquire(blocking=False):
            raise Busy(
                f"{self._limit} questions are being answered, as many as this server takes.",
                "Ask again in a moment.",
            )
        try:
            yield
        finally:
            self._places.release()

    def model(self, named: str | None) -> str:
        """The model for a request that names one, or none.

        Raises:
            InvalidRequest: It is a local file; which ones are opened is not for clients to say.
            NotConfigured: There is no provider to ask.
        """
        default = self._default_model()
        if named is None or named == default:
            return default
        if named.partition(":")[0] == endpoint.LOCAL:
            raise InvalidRequest(
                "A local model cannot be chosen by a request.",
                "Start the server with it: qa serve --model local:/path.gguf",
            )
        return named

    def _default_model(self) -> str:
        return endpoint.resolve_endpoint(self._settings, with_key=False).model

    def models(self) -> list[dict[str, Any]]:
        """The models that can be asked: the default first, then what the provider lists.

        Raises:
            Busy: See `place`.
            ProviderError: The provider cannot be asked; one that keeps no list is no error.
            NotConfigured: There is no provider to ask.
        """
        default = self._default_model()
        with self.slot():
            try:
                listed = self._provider.models()
            except ProviderRefused:
                listed = []
        first = [each for each in listed if each["id"] == default] or [{"id": default}]
        return first + [each for each in listed if each["id"] != default]


def get_state() -> AppState:
    """The service of the application that handles the request."""
    service: AppState = current_app.extensions[EXTENSION_KEY]
    return service


@contextmanager
def _log_exceptions() -> Iterator[None]:
    """What watches a question must not cost its answer, which is kept after it has been told."""
    try:
        yield
    except Exception:
        LOG.exception("a question could not be counted or traced")

"""What the routes share: one process's provider, database pool and outbox."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from flask import current_app

from qacli import endpoint
from qacli.asking import Asking, deliver
from qacli.config import Settings
from qacli.errors import Busy, DatabaseError, InvalidRequest, NotConfigured
from qacli.outbox import Outbox
from qacli.prices import Prices
from qacli.provider import Provider
from qacli.store import Store

KEY = "qa"
CONNECTIONS = 10
DELIVERY_SECONDS = 2.0


class Service:
    """One process's provider, database pool and outbox.

    Attributes:
        system: The system prompt of a question that brings none.
        context_tokens: How much of a thread a follow-up takes along.
        store: The history. It is not opened yet: a server outlives a database that is away.
        asking: The use case.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.system = settings.system
        self.context_tokens = settings.context_tokens
        self.store = Store(settings.database, connections=CONNECTIONS)
        self.outbox = Outbox(settings.outbox_path)
        self.asking = Asking(
            provider=lambda _ask: self._provider,
            outbox=self.outbox,
            store=lambda: self.store,
            prices=Prices.load(settings.prices_path),
        )
        self._places = threading.BoundedSemaphore(settings.threads)
        self._limit = settings.threads

    @cached_property
    def _provider(self) -> Provider:
        found = endpoint.resolve(self._settings)
        if not found.base_url:
            raise NotConfigured("The local model is not running.", "See the server's log.")
        return Provider(found, self._settings)

    @contextmanager
    def place(self) -> Iterator[None]:
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
        default = endpoint.resolve(self._settings).model
        if named is None or named == default:
            return default
        if named.partition(":")[0] == endpoint.LOCAL:
            raise InvalidRequest(
                "A local model cannot be chosen by a request.",
                "Start the server with it: qa serve --model local:/path.gguf",
            )
        return named

    def deliver_forever(self) -> None:
        """Start a thread that delivers what the outbox holds, whenever the database is there."""

        def loop() -> None:
            pause = threading.Event()
            while not pause.wait(DELIVERY_SECONDS):
                with suppress(DatabaseError, OSError):
                    deliver(self.outbox, self.store)

        threading.Thread(target=loop, name="qa-delivery", daemon=True).start()


def current() -> Service:
    """The service of the application that handles the request."""
    service: Service = current_app.extensions[KEY]
    return service

"""What the routes share: one process's provider, database pool and outbox."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from time import monotonic
from typing import Any

from flask import current_app

from qacli import endpoint
from qacli.asking import Asking, Watch, deliver
from qacli.config import Settings
from qacli.errors import (
    Busy,
    DatabaseError,
    InvalidRequest,
    NotConfigured,
    ProviderRefused,
    Unauthorized,
)
from qacli.exchange import Accepted, Ask, Outcome
from qacli.outbox import Outbox
from qacli.prices import Prices
from qacli.provider import Provider
from qacli.store import Store
from qacli.turns import TURNS
from qacli.web.access import notes
from qacli.web.inflight import InFlight
from qacli.web.keeper import Keeper

LOG = logging.getLogger("qa.web")
KEY = "qa"
CONNECTIONS = 64
"""To the database, of all workers together: PostgreSQL takes 100 by default, for everybody."""

MOST_CONNECTIONS = 10
"""Of one worker: reading is quick, and all writing goes through one."""

DELIVERY_SECONDS = 2.0


class Service:
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
        connections = min(max(CONNECTIONS // settings.workers, 2), MOST_CONNECTIONS)
        self.all_records = Store(settings.database, connections=connections)
        self.outbox = Outbox(settings.outbox_path)
        self.asking = Asking(
            provider=lambda _ask: self._provider,
            outbox=self.outbox,
            store=lambda: self.all_records,
            prices=Prices.load(settings.prices_path),
            keeper=Keeper(self.outbox, self.all_records),
            watch=self._watched,
        )
        self.watches: list[Watch] = []
        self.in_flight = InFlight()
        self._places = threading.BoundedSemaphore(settings.threads)
        self._limit = settings.threads
        self._making = threading.Lock()
        self._made: Provider | None = None
        self._failed: NotConfigured | None = None
        self._failed_at = 0.0

    def _watched(self, ask: Ask) -> Callable[[Outcome], None]:
        told: list[Callable[[Outcome], None]] = []
        for watch in self.watches:
            with _no_matter():
                told.append(watch(ask))

        def tell(outcome: Outcome) -> None:
            for each in told:
                with _no_matter():
                    each(outcome)

        return tell

    @property
    def store(self) -> Store:
        """The history as the caller of the current request sees it.

        Raises:
            Unauthorized: The request has not been authenticated, or there is no request.
        """
        identity = notes().identity
        if identity is None:
            raise Unauthorized("The request has not been authenticated.", "Send a token.")
        return self.all_records.visible_to(identity.owner)

    @property
    def _provider(self) -> Provider:
        if self._made is not None:
            return self._made
        TURNS.give()  # a command that gives the key may take a minute
        began = monotonic()
        with self._making:
            if self._made is None:
                if self._failed is not None and self._failed_at > began:
                    # Whoever has waited for it does not try once more, one after the other.
                    raise copy(self._failed)
                try:
                    self._made = self._make()
                except NotConfigured as error:
                    self._failed, self._failed_at = copy(error), monotonic()
                    raise
            return self._made

    def _make(self) -> Provider:
        found = endpoint.resolve(self._settings)
        if not found.base_url:
            raise NotConfigured("The local model is not running.", "See the server's log.")
        return Provider(found, self._settings, connections=self._limit)

    def warm_up(self) -> None:
        """Load in the background what asking needs, so that the first question need not wait."""

        def load() -> None:
            with suppress(NotConfigured):
                _ = self._provider

        threading.Thread(target=load, name="qa-warm-up", daemon=True).start()

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
        return endpoint.resolve(self._settings, with_key=False).model

    def models(self) -> list[dict[str, Any]]:
        """The models that can be asked: the default first, then what the provider lists.

        Raises:
            Busy: See `place`.
            ProviderError: The provider cannot be asked; one that keeps no list is no error.
            NotConfigured: There is no provider to ask.
        """
        default = self._default_model()
        with self.place():
            try:
                listed = self._provider.models()
            except ProviderRefused:
                listed = []
        first = [each for each in listed if each["id"] == default] or [{"id": default}]
        return first + [each for each in listed if each["id"] != default]

    def deliver_forever(self, again: Callable[[Accepted], bool]) -> None:
        """Start a thread that delivers what the outbox holds, whenever the database is there.

        Args:
            again: Asks again what was accepted, and never answered.
        """
        reported: set[str] = set()

        def report(text: str) -> None:
            # What stays where it is comes up again each time.
            if text not in reported:
                reported.add(text)
                LOG.warning("%s", text)

        def loop() -> None:
            pause = threading.Event()
            while not pause.wait(DELIVERY_SECONDS):
                try:
                    deliver(self.outbox, self.all_records, again, report)
                except (DatabaseError, OSError):
                    pass  # it is tried again
                except Exception:
                    LOG.exception("what waits in the outbox could not be delivered")

        threading.Thread(target=loop, name="qa-delivery", daemon=True).start()


def current() -> Service:
    """The service of the application that handles the request."""
    service: Service = current_app.extensions[KEY]
    return service


@contextmanager
def _no_matter() -> Iterator[None]:
    """What watches a question must not cost its answer, which is kept after it has been told."""
    try:
        yield
    except Exception:
        LOG.exception("a question could not be counted or traced")

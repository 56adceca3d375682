"""The settings, the open history and the endpoint of one call."""

import warnings
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from qacli.config.env_file import Trust
from qacli.config.loader import load_settings
from qacli.domain import now
from qacli.errors import DatabaseError
from qacli.recording.outbox import Outbox

if TYPE_CHECKING:
    from qacli.db.records import Store
    from qacli.provider.endpoint import Endpoint


class Session(ExitStack):
    """The settings of one call, and the resources that it opens, which are closed at its end.

    It can be entered again after that. Nothing is shared between two calls, so that a call works in
    any thread, also while an event loop runs, and in a process that was forked.

    Args:
        values: Settings that override those of the environment; None overrides nothing.

    Raises:
        NotConfigured: See `qacli.config.loader.load_settings`.
    """

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - the settings' own types
        super().__init__()
        self.settings = load_settings().explicit_values(values)
        self.outbox = Outbox(self.settings.outbox_path)
        self._store: Store | None = None
        ignored = self.settings.ignored_env_file
        if ignored is not None and ignored.trust is not Trust.REFUSED:
            warn(ignored.notice)
        for sentence in self.settings.misspelled:
            warn(sentence)

    def store(self, *, connections: int = 1) -> "Store":
        """Return the open history, after the answers in the outbox were delivered to it.

        Args:
            connections: Connections to PostgreSQL; SQLite connects for each use.

        Raises:
            DatabaseError: The history cannot be used.
        """
        if self._store is None:
            from qacli.db.records import Store
            from qacli.recording.recovery import recover_outbox

            is_sqlite = self.settings.database.startswith("sqlite")
            url = self.settings.database
            self._store = Store.open(url, connections=0 if is_sqlite else connections)
            self.callback(self._close_store)
            with suppress(DatabaseError):  # the history can still be read
                recover_outbox(self.outbox, self._store)
        return self._store

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def start_endpoint(self, model: str | None) -> "Endpoint":
        """Return the endpoint to ask, with the local engine started if it is the endpoint.

        Raises:
            NotConfigured: The settings name no endpoint that can be asked.
        """
        from qacli.model_shutdowns import shutdown_warning
        from qacli.provider import endpoint

        resolved = endpoint.resolve_endpoint(self.settings, model)
        if warning := shutdown_warning(resolved.model, resolved.name, now().date()):
            warn(warning)
        return endpoint.start_if_local(resolved, self)


def warn(text: str) -> None:
    """Issue a Python warning: the caller should know it, but the call goes on."""
    warnings.warn(text, stacklevel=3)

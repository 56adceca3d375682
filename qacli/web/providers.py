"""The providers of one process: the server's own one and its upstreams, each made when needed."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import replace
from time import monotonic
from typing import Any

from qacli.config.loader import headers_of
from qacli.config.settings import Settings
from qacli.config.upstreams import OWN, Target, Upstreams
from qacli.errors import InvalidRequest, NotConfigured, ProviderRefused, QaError
from qacli.model_options import merge_params
from qacli.provider import endpoint, local_llama
from qacli.provider.gate import Gate
from qacli.provider.sync import SyncProvider
from qacli.web.routed_provider import Route, RoutedProvider

LOG = logging.getLogger("qa.web")
MakeGate = Callable[[endpoint.Endpoint], Gate]


def check_upstreams(upstreams: Upstreams) -> None:
    """Check that each upstream has an endpoint and its headers, and the local one its engine.

    No key is read: that may run a command.

    Raises:
        NotConfigured: An upstream has no endpoint, or cannot use its headers or its engine.
    """
    for name in upstreams.names:
        try:
            endpoint.resolve_endpoint(upstreams.settings[name], with_key=False)
            headers_of(upstreams.settings[name])
        except NotConfigured as error:
            what = f"The upstream {name} cannot be used. {error.what}"
            raise NotConfigured(what, error.todo) from None


class LazyProvider:
    """A provider that is made for its first request.

    Args:
        settings: Its settings; a local model is started.
        connections: The most connections at once.
        make_gate: See `Providers`.
    """

    def __init__(self, settings: Settings, connections: int, make_gate: MakeGate) -> None:
        self._settings = settings
        self._connections = connections
        self._make_gate = make_gate
        self._lock = threading.Lock()
        self._provider: SyncProvider | None = None
        self._error: NotConfigured | None = None
        self._failed_at = 0.0

    def get(self) -> SyncProvider:
        """Return the provider.

        Raises:
            NotConfigured: The provider has no endpoint, or its key cannot be read.
        """
        if self._provider is not None:
            return self._provider
        started_at = monotonic()
        with self._lock:
            if self._provider is None:
                if self._error is not None and self._failed_at > started_at:
                    # Requests that waited for this attempt share its error.
                    raise copy(self._error)
                try:
                    self._provider = self._make()
                except NotConfigured as error:
                    self._error, self._failed_at = copy(error), monotonic()
                    raise
            return self._provider

    def _make(self) -> SyncProvider:
        resolved = endpoint.resolve_endpoint(self._settings)
        if resolved.weights is not None:
            resolved = replace(resolved, base_url=local_llama.shared_server(resolved.weights))
        gate = self._make_gate(resolved)
        return SyncProvider(resolved, self._settings, connections=self._connections, gate=gate)

    def close(self) -> None:
        """End the provider's requests, if it was made."""
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.close()


class Providers:
    """The providers of a server, by the names of their models.

    Args:
        upstreams: The server's own provider, the upstreams and their rules.
        connections: The most connections at once to each.
        make_gate: Returns the gate of an endpoint.
    """

    def __init__(self, upstreams: Upstreams, connections: int, make_gate: MakeGate) -> None:
        self.upstreams = upstreams
        self._providers = {
            name: LazyProvider(settings, connections, make_gate)
            for name, settings in upstreams.settings.items()
        }

    def close(self) -> None:
        """End the requests of all providers."""
        for provider in self._providers.values():
            provider.close()

    def choose(self, model: str) -> "SyncProvider | RoutedProvider":
        """Return the provider for a model.

        Raises:
            InvalidRequest: No upstream has the model.
            NotConfigured: The only provider for it cannot be used.
        """
        targets = self.upstreams.route(model)
        if targets == (Target(OWN, model),):
            return self._providers[OWN].get()
        routes = [
            Route(target, self._providers[name].get, self.upstreams.settings[name])
            for target in targets
            for name in [target.upstream]
        ]
        if len(routes) == 1:
            routes[0].provider()
        return RoutedProvider(model, routes)

    def without_model(self) -> SyncProvider:
        """Return the provider for a request that names no model: the own one, or the first.

        Raises:
            NotConfigured: The provider cannot be used.
        """
        return next(iter(self._providers.values())).get()

    def is_present(self, model: str, away: set[str]) -> bool:
        """Return whether the first upstream for a model exists and is not in `away`."""
        with suppress(InvalidRequest):
            return self.upstreams.route(model)[0].upstream not in away
        return False

    def endpoint_names(self, model: str) -> set[str]:
        """Return the names of the endpoints that may answer a question for a model."""
        with suppress(QaError):
            return {self._endpoint_name(target) for target in self.upstreams.route(model)}
        return set()

    def first_endpoint_name(self, model: str) -> str:
        """Return the name of the endpoint that is asked first for a model.

        Raises:
            InvalidRequest: No upstream has the model.
            NotConfigured: There is no provider to ask.
        """
        return self._endpoint_name(self.upstreams.route(model)[0])

    def _endpoint_name(self, target: Target) -> str:
        settings = self.upstreams.settings[target.upstream]
        return endpoint.resolve_endpoint(settings, with_key=False).name

    def default_params(self, model: str) -> dict[str, Any]:
        """Return the options for a model where a request does not set them.

        A model that no upstream has, as that of an old record, has none.
        """
        try:
            target = self.upstreams.route(model)[0]
        except InvalidRequest:
            return {}
        settings = self.upstreams.settings[target.upstream]
        defaults = settings.default_params(model)
        if target.model in {"", model}:
            return defaults
        return merge_params(defaults, settings.default_params(target.model))

    def models(self) -> tuple[list[dict[str, Any]], set[str]]:
        """Return the models of all providers, and the names of the upstreams that are away.

        Models of upstreams have its name before theirs. A provider without a list is accepted. One
        that is away is left out and logged.

        Raises:
            ProviderError: There is one provider only, and it is away.
            NotConfigured: There is one provider only, and it cannot be used.
        """
        if not self.upstreams.names:
            return self._models_of(OWN), set()
        models: list[dict[str, Any]] = []
        away = set()
        with ThreadPoolExecutor(len(self._providers)) as threads:
            lists = {name: threads.submit(self._models_of, name) for name in self._providers}
        for name, future in lists.items():
            try:
                models += future.result()
            except QaError as error:
                LOG.warning("the upstream %s is left out of the list of models: %s", name, error)
                away.add(name)
        return models, away

    def _models_of(self, name: str) -> list[dict[str, Any]]:
        if name != OWN and self.upstreams.is_local(name):
            return [{"id": name, "owned_by": name}]
        try:
            models = self._providers[name].get().models()
        except ProviderRefused:
            return []
        if name == OWN:
            return models
        return [{"owned_by": name, **model, "id": f"{name}/{model['id']}"} for model in models]

    def warm_up(self) -> None:
        """Make the providers in the background, so that the first question does not wait.

        A local upstream is not loaded before a request needs it.
        """

        def load() -> None:
            for name, provider in self._providers.items():
                if name == OWN or not self.upstreams.is_local(name):
                    with suppress(NotConfigured):
                        provider.get()

        threading.Thread(target=load, name="qa-warm-up", daemon=True).start()

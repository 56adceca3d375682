"""Choose the upstream of a model: the endpoint of the server's settings, or a profile's.

    model of the question --> [routes], "profile/model" --> target --> [fallbacks] --> targets

A target is an upstream and the name of the model there. The targets of a question are asked in
their order: the next one is asked if one is away or overloaded, before any of its answer was passed
on. The record has the endpoint that answered, and in `details.fallbacks` the failures before it.
"""

import json
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

from qacli.config.loader import profile_settings
from qacli.config.parsers import parse_list
from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Delta, Heartbeat, ReasoningDelta
from qacli.errors import NotConfigured, ProviderError, ProviderRefused, ProviderUnavailable
from qacli.provider import local_llama
from qacli.provider.endpoint import LOCAL, resolve_endpoint
from qacli.provider.response import ChatResponse, TextEvent
from qacli.provider.sync import SyncProvider
from qacli.raw_request import RawRequest, ResponseHead

if TYPE_CHECKING:
    from qacli.provider.relay import RawEvent
    from qacli.raw_request import RelayEvent

LOG = logging.getLogger("qa.web")
OWN = "default"
"""The name of the server's own endpoint in `[routes]` and `[fallbacks]`."""


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream, and the name of the model there."""

    upstream: str
    model: str


class Upstreams:
    """The upstreams of one process; each is connected when it is first asked.

    Args:
        settings: The settings of the server; `QA_UPSTREAMS`, `[routes]` and `[fallbacks]`.
        connections: Maximum connections to each upstream.

    Raises:
        NotConfigured: A profile does not exist or has a wrong value, or a target is no upstream.
    """

    def __init__(self, settings: Settings, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        names = list(dict.fromkeys(parse_list(settings.upstreams)))
        self._profiles = {
            name: profile_settings(settings, name) for name in names if name not in {OWN, LOCAL}
        }
        self.has_local = LOCAL in names
        self._names = [OWN, *self._profiles, *([LOCAL] if self.has_local else [])]
        self._lock = threading.Lock()
        self._locks = {name: threading.Lock() for name in self._names}
        self._providers: dict[str, SyncProvider] = {}
        self._errors: dict[str, tuple[NotConfigured, float]] = {}
        self._engines = ExitStack()
        self._check_targets()

    def targets(self, model: str) -> list[Target]:
        """Return the targets for a model, in the order in which they are asked."""
        first = self._first_target(model)
        others = (self._target(text, first.model) for text in self._fallbacks(first.upstream))
        return list(dict.fromkeys([first, *others]))

    def endpoint_names(self, model: str) -> list[str]:
        """Return the names of the endpoints of a model's targets, as records have them.

        Raises:
            NotConfigured: An upstream has no key or URL.
        """
        return [
            resolve_endpoint(
                self._profiles.get(target.upstream, self._settings),
                LOCAL if target.upstream == LOCAL else None,
                with_key=False,
            ).name
            for target in self.targets(model)
        ]

    def provider(self, model: str) -> "SyncProvider | RoutedProvider":
        """Return the provider for a model.

        Raises:
            NotConfigured: The only upstream for it has no key or URL.
        """
        targets = self.targets(model)
        if len(targets) == 1 and targets[0] == Target(OWN, model):
            return self.connect(OWN)
        return RoutedProvider(targets, self.connect)

    def connect(self, name: str) -> SyncProvider:
        """Return the provider of an upstream; the first call makes it.

        Raises:
            NotConfigured: It has no key or URL, or the local engine cannot be started.
        """
        if (provider := self._providers.get(name)) is not None:
            return provider
        started_at = monotonic()
        with self._locks[name]:
            if name not in self._providers:
                error, failed_at = self._errors.get(name, (None, 0.0))
                if error is not None and failed_at > started_at:
                    # Requests that waited for this attempt share its error.
                    raise copy(error)
                try:
                    self._providers[name] = self._make(name)
                except NotConfigured as failure:
                    self._errors[name] = copy(failure), monotonic()
                    raise
            return self._providers[name]

    def models(self) -> list[dict[str, Any]]:
        """Return the models of all upstreams; those of a profile have its name as a prefix.

        Raises:
            ProviderError: The server's own endpoint cannot be reached; one without a list of models
                is accepted, and so is any failure of another upstream.
            NotConfigured: There is no endpoint at all.
        """
        models: list[dict[str, Any]] = []
        for name in self._names:
            try:
                listed = self.connect(name).models()
            except ProviderRefused:
                continue
            except (ProviderError, NotConfigured) as error:
                if name == OWN and (isinstance(error, ProviderError) or len(self._names) == 1):
                    raise
                if name != OWN:
                    LOG.warning("the models of %s are not listed: %s", name, error.what)
                continue
            if name == LOCAL:
                models.append({"id": LOCAL, "owned_by": LOCAL})
            elif name == OWN:
                models += listed
            else:
                models += [{**item, "id": f"{name}/{item['id']}"} for item in listed]
        return models

    def _make(self, name: str) -> SyncProvider:
        settings = self._profiles.get(name, self._settings)
        endpoint = resolve_endpoint(settings, LOCAL if name == LOCAL else None)
        if name == LOCAL and endpoint.weights is not None:
            address = self._engines.enter_context(local_llama.local_server(endpoint.weights))
            endpoint = replace(endpoint, base_url=address)
        if not endpoint.base_url:
            raise NotConfigured("The local model is not running.", "See the server's log.")
        return SyncProvider(endpoint, settings, connections=self._connections)

    def _first_target(self, model: str) -> Target:
        if model == LOCAL and self.has_local:
            return Target(LOCAL, LOCAL)
        if (target := self._by_prefix(model)) is not None:
            return target
        for pattern, text in self._settings.routes.items():
            if fnmatchcase(model, pattern):
                return self._target(text, model)
        return Target(OWN, model)

    def _by_prefix(self, text: str) -> Target | None:
        """Return the target of a text such as `groq/llama-3`; None if it begins with no upstream.

        A name may contain a slash; then the longest name counts.
        """
        for name in sorted(self._names, key=len, reverse=True):
            if text.startswith(f"{name}/"):
                return Target(name, text.removeprefix(f"{name}/"))
        return None

    def _target(self, text: str, model: str) -> Target:
        """Return the target of a text in the configuration: an upstream, or upstream/model."""
        if text == LOCAL:
            return Target(LOCAL, LOCAL)
        return (
            Target(text, model) if text in self._names else self._by_prefix(text) or Target("", "")
        )

    def _fallbacks(self, upstream: str) -> list[str]:
        return list(self._settings.fallbacks.get(upstream, ()))

    def _check_targets(self) -> None:
        tables = [
            *(("routes", pattern, [text]) for pattern, text in self._settings.routes.items()),
            *(("fallbacks", name, texts) for name, texts in self._settings.fallbacks.items()),
        ]
        for table, key, texts in tables:
            names = [*texts, *([key] if table == "fallbacks" else [])]
            for text in names:
                if text not in self._names and (text == key or self._by_prefix(text) is None):
                    raise NotConfigured(
                        f"[{table}] in the configuration file names {text!r}, which is not an "
                        "upstream.",
                        f"The upstreams are {', '.join(self._names)}; add a profile's name to "
                        "QA_UPSTREAMS.",
                    )


@dataclass(frozen=True, slots=True)
class RoutedProvider:
    """Asks the first of several targets, and the next one if it is away; as `SyncProvider`.

    Attributes:
        targets: The targets, in their order.
        connect: Returns the provider of an upstream.
    """

    targets: list[Target]
    connect: Callable[[str], SyncProvider]

    def stream(
        self,
        request: ChatRequest,
        response: ChatResponse,
        *,
        on_arrival: Callable[[TextEvent], None] = lambda _event: None,
        heartbeat_seconds: float | None = None,
        deltas: bool = True,
    ) -> "Generator[RawEvent | Heartbeat]":
        """Ask; see `SyncProvider.stream`.

        Raises:
            NotConfigured: The last target has no key or URL.
            ProviderError: The error of the last target that was asked.
        """

        def ask(provider: SyncProvider, target: Target) -> "Iterator[RawEvent | Heartbeat]":
            return provider.stream(
                _for_target(request, target, provider),
                response,
                on_arrival=on_arrival,
                heartbeat_seconds=heartbeat_seconds,
                deltas=deltas,
            )

        yield from self._ask_in_order(
            ask, response, is_streamed=request.raw is None or request.raw.is_streamed
        )

    def relay(
        self, request: RawRequest, *, heartbeat_seconds: float | None = None
    ) -> "Generator[RelayEvent | Heartbeat]":
        """Send a client's request; see `SyncProvider.relay`.

        Raises:
            NotConfigured: As `stream`; so is ProviderError.
        """

        def send(provider: SyncProvider, target: Target) -> "Iterator[RawEvent | Heartbeat]":
            raw = _raw_for_target(request, _model_at(target, provider))
            return provider.relay(raw, heartbeat_seconds=heartbeat_seconds)

        for event in self._ask_in_order(send, ChatResponse(), is_streamed=request.is_streamed):
            if not isinstance(event, Delta | ReasoningDelta):
                yield event

    def _ask_in_order(
        self,
        ask: "Callable[[SyncProvider, Target], Iterator[RawEvent | Heartbeat]]",
        response: ChatResponse,
        *,
        is_streamed: bool,
    ) -> "Generator[RawEvent | Heartbeat]":
        failures: list[dict[str, Any]] = []
        *others, last = self.targets
        for target in others:
            held = HeldEvents(is_streamed=is_streamed)
            try:
                yield from held.filter(ask(self.connect(target.upstream), target))
            except (ProviderError, NotConfigured) as error:
                if held.is_released or response.has_begun or not _is_away(error):
                    response.add_detail("fallbacks", failures)
                    yield from held.events
                    raise
                failures.append(_failure(target, error))
                LOG.warning("%s does not answer: %s", target.upstream, error.what)
            else:
                response.add_detail("fallbacks", failures)
                yield from held.events
                return
        try:
            yield from ask(self.connect(last.upstream), last)
        finally:
            response.add_detail("fallbacks", failures)


@dataclass(slots=True)
class HeldEvents:
    """The events of a response that are held back while another target may still answer.

    A stream is released with its head, if that is no error. A response in one piece is held back to
    its end.

    Attributes:
        is_streamed: The client wants a stream.
        events: The events that are held back.
        is_released: Events were passed on.
    """

    is_streamed: bool
    events: "list[RawEvent]" = field(default_factory=list)
    is_released: bool = False

    def filter(self, events: "Iterator[RawEvent | Heartbeat]") -> "Iterator[RawEvent | Heartbeat]":
        """Yield the events that are not held back."""
        for event in events:
            if isinstance(event, Heartbeat) or self.is_released:
                yield event
                continue
            is_error = isinstance(event, ResponseHead) and event.status >= HTTPStatus.BAD_REQUEST
            if self.events or is_error or not self.is_streamed:
                self.events.append(event)
            else:
                self.is_released = True
                yield event


def _is_away(error: ProviderError | NotConfigured) -> bool:
    """Return whether another upstream may answer: this one is away, overloaded or unusable."""
    if isinstance(error, ProviderError):
        return isinstance(error, ProviderUnavailable) or error.fatal
    return True


def _failure(target: Target, error: ProviderError | NotConfigured) -> dict[str, Any]:
    status = error.provider_status if isinstance(error, ProviderError) else None
    values = {"upstream": target.upstream, "model": target.model, "error": error.what}
    return values | {"kind": error.kind} | ({"status": status} if status is not None else {})


def _model_at(target: Target, provider: SyncProvider) -> str:
    return provider.endpoint.model if target.upstream == LOCAL else target.model


def _for_target(request: ChatRequest, target: Target, provider: SyncProvider) -> ChatRequest:
    """Return the request with the name of the model at the target."""
    model = _model_at(target, provider)
    params: Mapping[str, Any] = request.question.params
    if params.get("model") == model:
        return request
    question = replace(request.question, params={**params, "model": model})
    raw = None if request.raw is None else _raw_for_target(request.raw, model)
    return replace(request, question=question, raw=raw)


def _raw_for_target(raw: RawRequest, model: str) -> RawRequest:
    """Return a client's request with the name of the model at the target."""
    if raw.model in {"", model}:
        return raw
    body, history = (_with_model(data, model) for data in (raw.body, raw.history))
    return replace(raw, body=body, history=history, model=model)


def _with_model(data: bytes, model: str) -> bytes:
    if not data:
        return data
    return json.dumps({**json.loads(data), "model": model}, separators=(",", ":")).encode()

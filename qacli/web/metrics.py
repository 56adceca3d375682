"""`/metrics`, for Prometheus: requests, answers, and what they cost.

Where the server runs as several processes each counts in files of its own in a directory that they
share, so whichever is asked tells the numbers of all. No label holds what a client can make up: a
route is its rule, an unknown method is `other`.
"""

import os
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response, current_app, request

from qacli.config.loader import share_metrics
from qacli.domain import Outcome, Question, Status
from qacli.recording.outbox import Outbox
from qacli.web import auth
from qacli.web.openapi import ResponseSpec, describe

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

KEY = "qa-metrics"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

blueprint = Blueprint("metrics", __name__)


class Metrics:
    """The numbers of one process, or of its share in those of several.

    Args:
        outbox: Whose depth is told.
        shared: A directory that the server's processes share; None where there is only one.
    """

    def __init__(self, outbox: Outbox, shared: Path | None = None) -> None:
        if shared is not None:
            share_metrics(shared)  # the package looks at it once, when it is loaded
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._shared = shared
        self._outbox = outbox
        registry = self._registry = CollectorRegistry()
        registry.register(_Depth(outbox))
        self._requests = Counter(
            "qa_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "qa_http_request_seconds",
            "From a request until its response was sent.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._requests_in_flight = Gauge(
            "qa_http_requests_in_flight",
            "Requests that are being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._questions_in_flight = Gauge(
            "qa_questions_in_flight",
            "Questions that a provider is answering.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._questions = Counter(
            "qa_questions", "Questions that were asked, by outcome.", ["status"], registry=registry
        )
        self._errors = Counter(
            "qa_provider_errors",
            "Questions without an answer, by the kind of error.",
            ["kind"],
            registry=registry,
        )
        self._answer_seconds = Histogram(
            "qa_answer_seconds",
            "From a question until its whole answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "qa_tokens", "Tokens, by the provider's count.", ["kind"], registry=registry
        )
        self._token_parts = Counter(
            "qa_token_parts",
            "Tokens that are in qa_tokens too: cached of the prompt, reasoning of the completion.",
            ["kind"],
            registry=registry,
        )
        self._cost = Counter(
            "qa_cost_usd", "What answers cost, where the price is known.", registry=registry
        )

    def request_started(self) -> None:
        """A request has come."""
        self._requests_in_flight.inc()

    def request_finished(self, method: str, route: str, status: int, seconds: float) -> None:
        """Its response has been sent."""
        self._requests_in_flight.dec()
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def question_started(self, _ask: Question) -> Callable[[Outcome], None]:
        """A question is asked; what this gives is told the outcome."""
        self._questions_in_flight.inc()
        return self._question_finished

    def _question_finished(self, outcome: Outcome) -> None:
        self._questions_in_flight.dec()
        self._questions.labels(outcome.status.value).inc()
        if outcome.status is Status.FAILED:
            self._errors.labels(outcome.error_kind or "").inc()
        if outcome.latency_ms is not None:
            self._answer_seconds.observe(outcome.latency_ms / 1000)
        self._tokens.labels("prompt").inc(outcome.prompt_tokens or 0)
        self._tokens.labels("completion").inc(outcome.completion_tokens or 0)
        self._token_parts.labels("cached").inc(outcome.cached_tokens or 0)
        self._token_parts.labels("reasoning").inc(outcome.reasoning_tokens or 0)
        self._cost.inc(outcome.cost_usd or 0)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All of it in the form that is asked for, and the name of that form."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self._of_all()), content_type

    def _of_all(self) -> "CollectorRegistry":
        if self._shared is None:
            return self._registry
        from prometheus_client import CollectorRegistry, multiprocess

        for pid in _gone(self._shared):
            multiprocess.mark_process_dead(pid, str(self._shared))  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self._shared))  # type: ignore[no-untyped-call]
        registry.register(_Depth(self._outbox))
        return registry


class _Depth:
    """The outbox, looked at when the numbers are wanted."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        journals, size = self._outbox.depth()
        yield GaugeMetricFamily(
            "qa_outbox_depth", "Journals with what is being asked, or not yet stored.", journals
        )
        yield GaugeMetricFamily("qa_outbox_bytes", "What is in them, in bytes.", size)


def _gone(shared: Path) -> Iterator[int]:
    """The processes that were in the middle of something when they ended."""
    for path in shared.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            yield int(pid)
        except (PermissionError, ValueError):
            continue


@blueprint.get("/metrics")
@describe({HTTPStatus.OK: ResponseSpec("The numbers.", {"text/plain": str})})
def metrics() -> Response:
    """Numbers for Prometheus, of all processes of this server; for administrators.

    Where tokens are set, it takes one of an administrator.
    """
    auth.require_administrator()
    known: Metrics = current_app.extensions[KEY]
    body, content_type = known.render(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)

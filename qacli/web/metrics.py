"""`/metrics` for Prometheus: requests, answers, tokens and cost.

If the server has several processes, each counts in files of its own in a shared directory, so
every process can return the numbers of all. Clients cannot create labels: a route is its rule,
an unknown method is `other`.
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
from qacli.web.openapi import ResponseSpec, openapi_operation

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

EXTENSION_KEY = "qa-metrics"
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

blueprint = Blueprint("metrics", __name__)


class Metrics:
    """The metrics of one process.

    Args:
        outbox: The outbox, whose size is one of the metrics.
        shared: The directory that the server's processes share; None for one process.
    """

    def __init__(self, outbox: Outbox, shared: Path | None = None) -> None:
        if shared is not None:
            share_metrics(shared)  # prometheus_client reads this only when it is imported
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._shared = shared
        self._outbox = outbox
        registry = self._registry = CollectorRegistry()
        registry.register(_OutboxCollector(outbox))
        self._requests = Counter(
            "qa_http_requests",
            "Requests with a response.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "qa_http_request_seconds",
            "Seconds from a request until its response was sent.",
            ["method", "route"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._requests_in_flight = Gauge(
            "qa_http_requests_in_flight",
            "Requests without a response yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._questions_in_flight = Gauge(
            "qa_questions_in_flight",
            "Questions that the provider is answering.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._questions = Counter(
            "qa_questions", "Questions by status.", ["status"], registry=registry
        )
        self._errors = Counter(
            "qa_provider_errors",
            "Failed questions by the kind of error.",
            ["kind"],
            registry=registry,
        )
        self._answer_seconds = Histogram(
            "qa_answer_seconds",
            "Seconds from a question until its complete answer.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "qa_tokens", "Tokens, as counted by the provider.", ["kind"], registry=registry
        )
        self._token_parts = Counter(
            "qa_token_parts",
            "Tokens that are in qa_tokens too: cached of the prompt, reasoning of the completion.",
            ["kind"],
            registry=registry,
        )
        self._cost = Counter(
            "qa_cost_usd", "Cost of answers with a known price, in US dollars.", registry=registry
        )

    def request_started(self) -> None:
        """Count a request that arrives."""
        self._requests_in_flight.inc()

    def request_finished(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose response has been sent."""
        self._requests_in_flight.dec()
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def question_started(self, _question: Question) -> Callable[[Outcome], None]:
        """Count a question in flight; return the function to call with its outcome."""
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
        """Encode the metrics for an Accept header; return the body and its content type."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self._all_processes()), content_type

    def _all_processes(self) -> "CollectorRegistry":
        if self._shared is None:
            return self._registry
        from prometheus_client import CollectorRegistry, multiprocess

        for pid in _dead_processes(self._shared):
            multiprocess.mark_process_dead(pid, str(self._shared))  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self._shared))  # type: ignore[no-untyped-call]
        registry.register(_OutboxCollector(self._outbox))
        return registry


class _OutboxCollector:
    """The metrics of the outbox, which are read at each request of Prometheus."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        journals, size = self._outbox.depth()
        yield GaugeMetricFamily(
            "qa_outbox_depth", "Journals with questions in flight or not yet stored.", journals
        )
        yield GaugeMetricFamily("qa_outbox_bytes", "Size of these journals in bytes.", size)


def _dead_processes(shared: Path) -> Iterator[int]:
    """Yield the ids of ended processes whose gauges still count requests in flight."""
    for path in shared.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            yield int(pid)
        except (PermissionError, ValueError):
            continue


@blueprint.get("/metrics")
@openapi_operation({HTTPStatus.OK: ResponseSpec("The metrics.", {"text/plain": str})})
def metrics() -> Response:
    """Return the metrics of all processes of this server for Prometheus.

    If the server has tokens, the request needs the token of an administrator.
    """
    auth.require_administrator()
    app_metrics: Metrics = current_app.extensions[EXTENSION_KEY]
    body, content_type = app_metrics.render(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)

"""Traces for OpenTelemetry: a span for each request, and one for what the provider did in it.

Loaded only where OpenTelemetry's own environment variables say where traces go; needs the extra
`otel`. A span names models, tokens and kinds of errors, and never holds a question or an answer.
"""

import logging
import multiprocessing.util
from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING

from flask import Flask

import qacli
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span, TracerProvider

    from qacli.services.ask import Observer

LOG = logging.getLogger("qa.web")
KEY = "qa-traces"
ADDRESSES = ("http.target", "http.url", "url.full")
UNTRACED = "is_up,is_ready,metrics"


def init_app(app: Flask) -> "list[Observer]":
    """Trace the application's requests; gives what traces its questions.

    Nothing where the packages are not there: a server without traces is better than none.
    """
    try:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        provider = app.extensions[KEY] = _provider()
    except ImportError as error:
        LOG.warning("There are no traces: %s. Install them: pip install 'qacli[otel]'", error)
        return []
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app,
        tracer_provider=provider,
        excluded_urls=UNTRACED,
        # Not the hook for the request: what it changes is written once more after it.
        response_hook=_without_query,
    )
    # Python's own hook for the end does not run in a process that multiprocessing has made.
    multiprocessing.util.Finalize(provider, provider.shutdown, exitpriority=1)
    return [_watch(provider)]


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import (
        OTELResourceDetector,
        Resource,
        get_aggregated_resources,
    )
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource({"service.name": "qa", "service.version": qacli.__version__})
    resource = get_aggregated_resources([OTELResourceDetector()], initial_resource=ours)
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _without_query(span: "Span", _status: str, _headers: object) -> None:
    """A query may search for anything: it stays here."""
    for name in ADDRESSES:
        address = (span.attributes or {}).get(name)
        if isinstance(address, str):
            span.set_attribute(name, address.partition("?")[0])
    if "url.query" in (span.attributes or {}):
        span.set_attribute("url.query", "")


def _watch(provider: "TracerProvider") -> "Observer":
    from opentelemetry import context
    from opentelemetry.trace import SpanKind, StatusCode

    tracer = provider.get_tracer("qacli", qacli.__version__)

    def asked(ask: Question) -> Callable[[Outcome], None]:
        # An answer may go on when its request is over: the span is the request's all the same.
        parent, began = context.get_current(), time_ns()

        def answered(outcome: Outcome) -> None:
            span = tracer.start_span(f"chat {ask.model}", parent, SpanKind.CLIENT, start_time=began)
            for name, value in _attributes(ask, outcome).items():
                if value is not None:
                    span.set_attribute(name, value)
            if outcome.status is not Status.ANSWERED:
                kind = outcome.error_kind or outcome.status.value
                span.set_attribute("error.type", kind)
                span.set_status(StatusCode.ERROR, kind)
            span.end()

        return answered

    return asked


def _attributes(ask: Question, outcome: Outcome) -> dict[str, str | int | float | None]:
    """Return the attributes of a question, by OpenTelemetry's conventions for generative AI.

    https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
    """
    address, port = _address(outcome.endpoint or "")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": ask.model,
        "gen_ai.request.temperature": ask.params.get("temperature"),
        "gen_ai.request.max_tokens": ask.params.get("max_tokens"),
        "gen_ai.response.model": outcome.model,
        "gen_ai.response.id": outcome.provider_response_id,
        "gen_ai.usage.input_tokens": outcome.prompt_tokens,
        "gen_ai.usage.output_tokens": outcome.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": outcome.reasoning_tokens,
        "server.address": address or None,
        "server.port": int(port) if port else None,
        "qa.first_token_ms": outcome.first_token_ms,
        "qa.cost_usd": outcome.cost_usd,
        "qa.request_id": ask.request_id,
    }


def _address(endpoint: str) -> tuple[str, str]:
    """Return the host and the port of an endpoint's name; the port is empty if it has none."""
    host, colon, port = endpoint.rpartition(":")
    return (host.strip("[]"), port) if colon and port.isdecimal() else (endpoint.strip("[]"), "")

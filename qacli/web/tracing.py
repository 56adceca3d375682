"""Traces for OpenTelemetry: a span for each request, and one for each question to the provider.

This module is loaded only if OpenTelemetry's environment variables name a destination; it needs
the extra `otel`. A span has models, tokens and kinds of errors, never a question or an answer.
"""

import logging
import multiprocessing.util
from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING

from flask import Flask

import qacli
from qacli.domain import Outcome, Question, Status
from qacli.installation import extra_command

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span, TracerProvider

    from qacli.services.ask import Observer

LOG = logging.getLogger("qa.web")
EXTENSION_KEY = "qa-traces"
URL_ATTRIBUTES = ("http.target", "http.url", "url.full")
UNTRACED = "is_up,is_ready,metrics"


def init_app(app: Flask) -> "list[Observer]":
    """Trace the application's requests, and return the observers that trace its questions.

    If the packages are not installed, the server runs without traces: log a warning and return
    an empty list.
    """
    try:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        provider = app.extensions[EXTENSION_KEY] = _provider()
    except ImportError as error:
        LOG.warning("There are no traces: %s. Run: %s", error, extra_command("otel"))
        return []
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app,
        tracer_provider=provider,
        excluded_urls=UNTRACED,
        # The request hook is too early: these attributes are set again after it.
        response_hook=_remove_query,
    )
    # atexit does not run in a process of multiprocessing.
    multiprocessing.util.Finalize(provider, provider.shutdown, exitpriority=1)
    return [_make_observer(provider)]


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import (
        OTELResourceDetector,
        Resource,
        get_aggregated_resources,
    )
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    service = Resource({"service.name": "qa", "service.version": qacli.__version__})
    resource = get_aggregated_resources([OTELResourceDetector()], initial_resource=service)
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _remove_query(span: "Span", _status: str, _headers: object) -> None:
    """Remove the query string, which may hold private search words, from a span."""
    for name in URL_ATTRIBUTES:
        address = (span.attributes or {}).get(name)
        if isinstance(address, str):
            span.set_attribute(name, address.partition("?")[0])
    if "url.query" in (span.attributes or {}):
        span.set_attribute("url.query", "")


def _make_observer(provider: "TracerProvider") -> "Observer":
    from opentelemetry import context
    from opentelemetry.trace import SpanKind, StatusCode

    tracer = provider.get_tracer("qacli", qacli.__version__)

    def start_question(question: Question) -> Callable[[Outcome], None]:
        # The answer may end after its request; its span is still a child of the request's span.
        parent, started_at = context.get_current(), time_ns()

        def end_question(outcome: Outcome) -> None:
            span = tracer.start_span(
                f"chat {question.model}", parent, SpanKind.CLIENT, start_time=started_at
            )
            for name, value in _attributes(question, outcome).items():
                if value is not None:
                    span.set_attribute(name, value)
            if outcome.status is not Status.ANSWERED:
                kind = outcome.error_kind or outcome.status.value
                span.set_attribute("error.type", kind)
                span.set_status(StatusCode.ERROR, kind)
            span.end()

        return end_question

    return start_question


def _attributes(question: Question, outcome: Outcome) -> dict[str, str | int | float | None]:
    """Return the attributes of a span, named by OpenTelemetry's conventions for generative AI.

    https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
    """
    address, port = _address(outcome.endpoint or "")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": question.model,
        "gen_ai.request.temperature": question.params.get("temperature"),
        "gen_ai.request.max_tokens": question.params.get("max_tokens"),
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
        "qa.request_id": question.request_id,
    }


def _address(endpoint: str) -> tuple[str, str]:
    """Return the host and the port of an endpoint's name; the port is empty if it has none."""
    host, colon, port = endpoint.rpartition(":")
    return (host.strip("[]"), port) if colon and port.isdecimal() else (endpoint.strip("[]"), "")

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from qacli.config.loader import has_trace_exporter
from qacli.installation import extra_command
from qacli.web import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Program
    from flask import Flask


# One database: nothing here depends on its kind.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Collector:
    """A server on loopback that receives traces by OTLP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        self.raw = b""

    def take(self, data: bytes) -> None:
        self.raw += data
        for each in ExportTraceServiceRequest.FromString(data).resource_spans:
            self.resource |= {a.key: a.value.string_value for a in each.resource.attributes}
            self.spans += [span for scope in each.scope_spans for span in scope.spans]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Take) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield collector
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


@pytest.mark.usefixtures("store")
@on_sqlite
def test_tracing_request_and_provider_call_are_one_trace(
    build: Callable[..., Flask], collector: Collector
) -> None:
    app = build(tokens="alice=the-token")
    client = app.test_client()
    headers = {"Authorization": "Bearer the-token", "X-Request-Id": "me-5"}
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    outer = {**headers, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert client.post("/ask", json={"question": "On earth?"}, headers=outer).status_code == 200
    streamed = client.post(
        "/ask", json={"question": "On earth? [[status=401]]", "stream": True}, headers=headers
    )
    assert "event: error" in streamed.text
    client.get("/is_up")
    assert client.get("/qas?q=On+earth&model=the-token", headers=headers).status_code == 200
    assert client.get("/qas?q=On+earth").status_code == 401
    app.extensions[tracing.EXTENSION_KEY].shutdown()

    requests = [span for span in collector.spans if span.name == "POST /ask"]
    asked = [span for span in collector.spans if span.name == "chat test-model"]
    assert len(requests) == len(asked) == 2
    assert len(collector.spans) == 6
    assert "/is_up" not in str(collector.spans)
    for request, ask in zip(requests, asked, strict=True):
        assert ask.trace_id == request.trace_id
        assert ask.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= ask.start_time_unix_nano <= ask.end_time_unix_nano
    assert requests[0].trace_id.hex() == trace
    assert requests[1].trace_id.hex() != trace
    answered, failed = map(attributes, asked)
    assert answered["gen_ai.request.model"] == "test-model"
    assert answered["gen_ai.usage.output_tokens"] >= 1
    assert answered["server.address"] == "127.0.0.1"
    assert isinstance(answered["server.port"], int)
    assert answered["qa.request_id"] == "me-5"
    assert failed["error.type"] == "key-rejected"
    assert collector.resource["service.name"] == "qa"
    for secret in (b"the-token", b"On earth", b"On+earth", b"Answer to"):
        assert secret not in collector.raw


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_wants_traces_depends_on_the_environment(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], *, wanted: bool
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert has_trace_exporter() is wanted


@on_sqlite
def test_tracing_without_the_environment_loads_nothing(qa: Program) -> None:
    program = (
        "import sys\n"
        "from qacli.config.loader import load_settings\n"
        "from qacli.web.app import create_app\n"
        "create_app(load_settings())\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=qa.environ(), check=False, timeout=60
    )
    assert done.returncode == 0


@pytest.mark.usefixtures("store")
@on_sqlite
def test_tracing_without_the_packages_serves_and_warns(
    build: Callable[..., Flask],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.flask", None)
    assert build().test_client().get("/qas").status_code == 200
    assert extra_command("otel") in caplog.text

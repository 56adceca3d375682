"""Fixtures of the Flask application on both databases, without a socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from flask import Flask
from jinja2 import BytecodeCache
from werkzeug.routing import Rule
from werkzeug.serving import make_server

from qacli.web import state
from qacli.web.app import create_app

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from jinja2.bccache import Bucket

    from qacli.config.settings import Settings
    from qacli.db.records import Store


class TemplateCache(BytecodeCache):
    """Compiled templates, so that each is compiled once for all applications of a process."""

    def __init__(self) -> None:
        self._codes: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if code := self._codes.get(bucket.key):
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key] = bucket.bytecode_to_string()


class CompiledRule(Rule):
    """A rule that shares the compiled functions of an equal one of another application."""

    _functions: ClassVar[dict[tuple[object, ...], Any]] = {}

    def _compile_builder(self, *append_unknown: bool) -> Any:
        if self.defaults:
            return super()._compile_builder(*append_unknown)
        key = (self.rule, tuple(self._trace), append_unknown)
        if key not in self._functions:
            self._functions[key] = super()._compile_builder(*append_unknown)
        return self._functions[key]


TEMPLATES = TemplateCache()

Problem = Callable[..., dict[str, Any]]
TOKEN = "token-0123456789abcdef"


Flask.url_rule_class = CompiledRule


@pytest.fixture
def build(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Return a function that builds the application from `settings` with changes."""
    with ExitStack() as stack:

        def make(**changes: Any) -> Flask:
            app = create_app(settings.replace(**changes))
            app.jinja_env.bytecode_cache = TEMPLATES
            running: state.AppState = app.extensions[state.EXTENSION_KEY]
            stack.callback(running.all_records.close)
            stack.callback(running.providers.close)
            return app

        yield make


@pytest.fixture
def app(store: Store, build: Callable[..., Flask]) -> Flask:
    """The application of `settings`, with a migrated database."""
    assert store
    return build()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of `app`."""
    return app.test_client()


@pytest.fixture
def problem() -> Problem:
    """Return a function that checks an RFC 9457 problem, and returns its members."""

    def check(response: Any, status: int, kind: str) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.content_type == "application/problem+json"
        members: dict[str, Any] = response.get_json(force=True)
        assert members["status"] == status
        assert members["kind"] == kind
        assert members["type"] == f"urn:qa:{kind}"
        assert members["title"]
        assert members["detail"]
        return members

    return check


@pytest.fixture
def served(store: Store, build: Callable[..., Flask]) -> Iterator[str]:
    """Return the base URL of the API, which takes `TOKEN` as its key."""
    assert store
    server = make_server("127.0.0.1", 0, build(token=TOKEN), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()

"""What waits for long holds nobody up: see `qacli.turns`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from qacli.confined import Confined
from qacli.store import Store

if TYPE_CHECKING:
    from flask import Flask

TIMEOUT = 20
SCHEMA = {"type": "object"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("where", "what", "asked"),
    [
        (Store, "thread", {"follows_id": 1}),
        (Store, "of_key", {"headers": {"Idempotency-Key": "once"}}),
        (Confined, "refuse_unusable", {"schema": SCHEMA}),
        (Confined, "check", {"schema": SCHEMA}),
    ],
    ids=["history", "key", "schema", "answer"],
)
def test_who_waits_holds_nobody_up(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    where: type,
    what: str,
    asked: dict[str, Any],
) -> None:
    def ask(*, headers: dict[str, str] | None = None, **body: Any) -> Any:
        return app.test_client().post("/ask", json={"question": "Who?", **body}, headers=headers)

    for check in ("refuse_unusable", "check"):
        monkeypatch.setattr(Confined, check, lambda *_arguments: None)
    assert ask().status_code == 200
    waits, may_go_on = Event(), Event()
    real = getattr(where, what)

    def slow(*arguments: Any) -> Any:
        waits.set()
        assert may_go_on.wait(TIMEOUT)
        return real(*arguments)

    monkeypatch.setattr(where, what, slow)
    with ThreadPoolExecutor(2) as pool:
        slowly = pool.submit(ask, **asked)
        assert waits.wait(TIMEOUT)
        try:
            assert pool.submit(ask).result(TIMEOUT).status_code == 200
        finally:
            may_go_on.set()
        assert slowly.result(TIMEOUT).status_code == 200

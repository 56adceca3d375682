"""What goes wrong beside an answer costs neither it nor those that wait to be delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qacli.web import state

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.domain import DeferredQuestion


def test_a_mistake_does_not_end_the_delivery(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wait_for: Callable[..., Any],
) -> None:
    tries: list[None] = []

    def deliver(*_: object) -> int:
        tries.append(None)
        if len(tries) == 1:
            raise KeyError("a mistake")
        return 0

    def again(_ask: DeferredQuestion) -> bool:
        return False

    monkeypatch.setattr(state, "recover_outbox", deliver)
    monkeypatch.setattr(state, "DELIVERY_SECONDS", 0.01)
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    running.deliver_forever(again)
    wait_for(lambda: len(tries) > 1)
    assert "could not be delivered" in caplog.text


@pytest.mark.parametrize("at_once", [True, False])
def test_what_cannot_be_counted_is_kept_all_the_same(
    app: Flask, client: FlaskClient, *, at_once: bool
) -> None:
    def broken(_: object) -> None:
        raise OSError(24, "Too many open files")

    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    running.observers.append(broken if at_once else lambda _ask: broken)  # type: ignore[arg-type]
    assert client.post("/ask", json={"question": "Who?"}).get_json()["status"] == "answered"
    assert client.get("/qa/1").get_json()["answer"] == "Answer to: Who?"

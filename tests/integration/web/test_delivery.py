"""An error in the delivery of a journal loses neither the current answer nor waiting ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qacli.recording.outbox import OrphanedJournal, Outbox
from qacli.recording.recovery import start_recovery
from qacli.web import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient

    from qacli.db.records import Store


class FailingOutbox(Outbox):
    """An outbox that raises an error the first time that it is read."""

    tries = 0

    def orphaned(self) -> Iterator[OrphanedJournal]:
        self.tries += 1
        if self.tries == 1:
            raise KeyError("a mistake")
        return super().orphaned()


def test_recovery_thread_after_an_error_continues(
    store: Store, home: Path, caplog: pytest.LogCaptureFixture, wait_for: Callable[..., Any]
) -> None:
    outbox = FailingOutbox(home / "outbox")
    ended = start_recovery(outbox, store, lambda _ask: False, seconds=0.01)
    wait_for(lambda: outbox.tries > 1)
    ended.set()
    assert "could not be delivered" in caplog.text


@pytest.mark.parametrize("at_once", [True, False])
def test_observer_error_keeps_the_record(app: Flask, client: FlaskClient, *, at_once: bool) -> None:
    def broken(_: object) -> None:
        raise OSError(24, "Too many open files")

    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    running.observers.append(broken if at_once else lambda _ask: broken)  # type: ignore[arg-type]
    assert client.post("/ask", json={"question": "Who?"}).get_json()["status"] == "answered"
    assert client.get("/qa/1").get_json()["answer"] == "Answer to: Who?"

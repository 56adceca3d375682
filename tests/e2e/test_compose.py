"""The running compose project, over HTTP, as docs/deployment.md describes it.

Set QA_COMPOSE_URL=http://localhost to run these tests; without it they are skipped.
"""

import os
from typing import Any

import httpx2
import pytest

URL = os.environ.get("QA_COMPOSE_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="QA_COMPOSE_URL names no running project")


def call(method: str, path: str, body: object = None) -> Any:
    response = httpx2.request(method, URL + path, json=body, timeout=120)
    response.raise_for_status()
    return response.json() if response.content else None


def test_compose_started_is_up_and_ready() -> None:
    assert call("GET", "/is_up") == {"status": 200, "message": "yes"}
    assert call("GET", "/is_ready")["status"] == 200


def test_compose_question_is_answered_and_stored_until_removed() -> None:
    record = call("POST", "/ask", {"question": "Who am I?", "max_tokens": 64})
    assert record["status"] == "answered"
    assert record["answer"].strip()
    assert call("GET", f"/qa/{record['id']}") == record
    for path in ("/qas", "/qas/"):
        records = call("GET", f"{path}?after={record['id'] - 1}")
        assert isinstance(records, list)
        assert list(records[0])[:4] == ["id", "question", "answer", "created_at"]
    assert call("DELETE", f"/qa/{record['id']}") == {"id": record["id"], "deleted": True}
    assert call("GET", f"/qas?after={record['id'] - 1}") == []


def test_compose_adds_one_record_for_the_next_start() -> None:
    assert call("POST", "/ask", {"question": "What stays?", "max_tokens": 16})["id"]

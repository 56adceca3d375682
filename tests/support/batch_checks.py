"""Checks that a batch has asked each question and stored each answer once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from provider_process import logged_questions

if TYPE_CHECKING:
    from pathlib import Path


def check_answered_once(records: list[dict[str, Any]], questions: list[str]) -> None:
    """Check that each question has one record, with the answer of the fake provider."""
    assert Counter(record["question"] for record in records) == Counter(questions)
    for record in records:
        assert record["status"] == "answered", record["error"]
        assert record["answer"] == f"Answer to: {record['question']}"


def count_repeated_requests(log: Path, questions: list[str]) -> int:
    """Check that the log has these questions and no others; count the requests that repeat one."""
    requests = logged_questions(log)
    assert set(requests) == set(questions)
    return sum(requests.values()) - len(questions)

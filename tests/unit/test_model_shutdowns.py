from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest

from qacli.config.defaults import DEFAULT_MODEL
from qacli.model_shutdowns import PATH, Shutdown, find_shutdown, shutdown_warning

OPENAI = "api.openai.com"


@pytest.mark.parametrize(
    ("model", "endpoint", "day"),
    [
        ("gpt-5-mini", OPENAI, "2026-12-11"),
        ("gpt-5-mini-2025-08-07", OPENAI, "2026-12-11"),
        ("gpt-4o-2024-05-13", OPENAI, "2026-10-23"),
        ("gpt-4o-2024-08-06", OPENAI, "2027-01-14"),
        ("models/gemini-2.5-pro", "generativelanguage.googleapis.com", "2026-12-01"),
        ("claude-opus-4-1-20250805", "api.anthropic.com", "2026-08-05"),
    ],
)
def test_find_shutdown_of_a_known_model_returns_its_day(
    model: str, endpoint: str, day: str
) -> None:
    shutdown = find_shutdown(model, endpoint)
    assert shutdown is not None
    assert shutdown.day == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [(DEFAULT_MODEL, OPENAI), ("gpt-5-mini", "me.openai.azure.com"), ("gpt-5-minimal", OPENAI)],
)
def test_find_shutdown_of_another_model_or_endpoint_returns_none(model: str, endpoint: str) -> None:
    assert find_shutdown(model, endpoint) is None


def test_shutdown_warning_begins_60_days_before() -> None:
    model = "gpt-5-mini"
    assert shutdown_warning(model, OPENAI, date(2026, 10, 11)) is None
    soon = shutdown_warning(model, OPENAI, date(2026, 10, 12))
    assert soon == (
        "The model gpt-5-mini will be shut down on 2026-12-11. "
        "Its provider recommends gpt-6.1-terra."
    )
    late = shutdown_warning(model, OPENAI, date(2026, 12, 11))
    assert late is not None
    assert "was to be shut down on 2026-12-11" in late
    assert "--model" in (shutdown_warning("gpt-5.1", OPENAI, date(2027, 3, 1)) or "")


def test_shutdowns_file_has_dates_and_sources() -> None:
    for host in json.loads(PATH.read_bytes()).values():
        assert host["source"].startswith("https://")
        date.fromisoformat(host["read"])
        for name, (day, successor) in host["models"].items():
            assert name == name.lower()
            date.fromisoformat(day)
            assert successor is None or successor not in host["models"], successor


def test_default_model_is_not_past_its_shutdown() -> None:
    shutdown = find_shutdown(DEFAULT_MODEL, OPENAI) or Shutdown(date.max)
    assert datetime.now(UTC).date() < shutdown.day, (
        f"{DEFAULT_MODEL} is shut down since {shutdown.day}. Choose another DEFAULT_MODEL in "
        "qacli/config/defaults.py (see CONTRIBUTING.md)."
    )

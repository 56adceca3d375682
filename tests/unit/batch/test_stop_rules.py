from __future__ import annotations

import pytest

from qacli.batch.stop_rules import StopRules
from qacli.errors import KeyRejected, ProviderError, ProviderRefused, ProviderUnavailable


def rules(*, max_failures: int = 20, max_outage: float = 60, max_wait: float = 3600) -> StopRules:
    return StopRules(max_failures=max_failures, max_outage=max_outage, max_wait=max_wait, now=0.0)


def refused(status: int = 400, code: str = "bad") -> ProviderRefused:
    return ProviderRefused("No.", "Change it.", provider_status=status, details={"code": code})


UNAVAILABLE = ProviderUnavailable("Away.", "Later.", provider_status=503, retryable=True)


def stops_at(subject: StopRules, error: ProviderError, count: int) -> int | None:
    """Return the number of the item whose error stops the run."""
    for number in range(1, count + 1):
        if subject.on_error(f"item {number}", error, now=1.0) is not None:
            return number
    return None


def test_stop_rules_rejected_key_stops_at_once() -> None:
    error = KeyRejected("No key.", provider_status=401, fatal=True)
    assert rules().on_error("1", error, now=1.0) is error


@pytest.mark.parametrize("status", [400, 402, 404, 422])
def test_stop_rules_equal_refusals_in_a_row_stop(status: int) -> None:
    assert stops_at(rules(), refused(status), 30) == 20
    assert stops_at(rules(max_failures=7), refused(status), 30) == 7
    assert stops_at(rules(max_failures=0), refused(status), 300) is None


def test_stop_rules_different_refusals_or_an_answer_begin_anew() -> None:
    subject = rules()
    for number in range(100):
        assert subject.on_error(f"{number}", refused(code=str(number % 2)), now=1.0) is None
    subject = rules()
    for number in range(100):
        if number % 19 == 0:
            subject.on_answered(1.0)
        assert subject.on_error(f"{number}", refused(), now=1.0) is None


def test_stop_rules_answers_of_another_model_reset_no_refusals() -> None:
    subject = rules(max_failures=3)
    for number in range(2):
        assert subject.on_error(f"{number}", refused(), now=1.0, model="gone") is None
        subject.on_answered(1.0, "other")
    assert subject.on_error("other", refused(), now=1.0, model="other") is None
    assert subject.on_error("2", refused(), now=1.0, model="gone") is not None
    assert subject.refused_keys == {"0", "1", "2", "other"}


def test_stop_rules_forbidden_stops_only_before_the_first_answer() -> None:
    assert stops_at(rules(), refused(403), 10) == 5
    subject = rules()
    subject.on_answered(0.5)
    assert stops_at(subject, refused(403), 10) is None


def test_stop_rules_one_failing_item_is_no_outage_after_an_answer() -> None:
    subject = rules()
    subject.on_answered(1.0)
    for attempt in range(20):
        assert subject.on_error("last", UNAVAILABLE, now=100.0 + attempt) is None
    for number in range(4):
        stop = subject.on_error(f"item {number}", UNAVAILABLE, now=200.0)
    assert stop is UNAVAILABLE


def test_stop_rules_answer_after_five_failing_items_ends_an_outage() -> None:
    subject = rules()
    for number in range(4):
        subject.on_error(f"item {number}", UNAVAILABLE, now=1.0)
    assert not subject.on_answered(2.0)
    for number in range(5):
        subject.on_error(f"item {number}", UNAVAILABLE, now=3.0)
    assert subject.on_answered(4.0)
    assert not subject.on_answered(5.0)


def test_stop_rules_without_any_answer_one_item_shows_an_outage() -> None:
    subject = rules()
    assert subject.on_error("1", UNAVAILABLE, now=59.0) is None
    assert subject.on_error("1", UNAVAILABLE, now=61.0) is UNAVAILABLE


@pytest.mark.parametrize("seconds", [86_400.0, 1e18])
def test_stop_rules_long_retry_after_stops_and_names_the_date(seconds: float) -> None:
    error = ProviderUnavailable("Slow.", provider_status=429, retry_after=seconds, retryable=True)
    stop = rules().on_error("1", error, now=1.0)
    assert stop is not None
    assert "asks to wait until 20" in stop.what
    assert "--max-wait" in stop.todo
    assert rules(max_wait=1e19).on_error("1", error, now=1.0) is None

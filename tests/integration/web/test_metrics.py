from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


Problem = Callable[..., dict[str, Any]]
Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]

# One database: nothing here depends on its kind.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def numbers(client: FlaskClient, **options: Any) -> Numbers:
    """Return the samples by their names and labels."""
    response = client.get("/metrics", **options)
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def of(found: Numbers, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0)


def test_metrics_count_requests_by_route(client: FlaskClient) -> None:
    for path in ("/qa/1", "/qa/2", "/nowhere/1", "/nowhere/2"):
        client.get(path)
    client.open("/qas", method="BREW")
    found = numbers(client)

    def requests(**labels: str) -> float:
        return of(found, "qa_http_requests_total", **labels)

    assert requests(method="GET", route="/qa/<int:record_id>", status="404") == 2
    assert requests(method="GET", route="other", status="404") == 2
    assert requests(method="other", route="other", status="405") == 1
    assert (
        of(found, "qa_http_request_seconds_count", method="GET", route="/qa/<int:record_id>") == 2
    )
    # The request for the metrics itself is in flight.
    assert of(found, "qa_http_requests_in_flight") == 1


def test_metrics_count_answers_tokens_and_cost(client: FlaskClient) -> None:
    for question in ("Who?", "What?", "No [[status=429]]", "No [[status=400]]"):
        client.post("/ask", json={"question": question})
    found = numbers(client)
    assert of(found, "qa_questions_total", status="answered") == 2
    assert of(found, "qa_questions_total", status="failed") == 2
    assert of(found, "qa_provider_errors_total", kind="provider-unavailable") == 1
    assert of(found, "qa_provider_errors_total", kind="provider-refused") == 1
    assert of(found, "qa_tokens_total", kind="completion") > 0
    assert of(found, "qa_tokens_total", kind="prompt") > 0
    assert of(found, "qa_answer_seconds_count") >= 2
    assert of(found, "qa_questions_in_flight") == 0


def test_metrics_closed_stream_is_not_in_flight(client: FlaskClient) -> None:
    body = {"question": "Slow [[delay=0.2]] one two three four", "stream": True}
    response = client.post("/ask", json=body, buffered=False)
    next(iter(response.response))
    assert of(numbers(client), "qa_http_requests_in_flight") == 2
    response.close()
    assert of(numbers(client), "qa_http_requests_in_flight") == 1


@pytest.mark.usefixtures("store")
def test_metrics_with_tokens_need_a_token(build: Callable[..., Flask], problem: Problem) -> None:
    client = build(tokens="admin:prometheus=scrape-token").test_client()
    problem(client.get("/metrics"), 401, "unauthorized")
    assert numbers(client, headers={"Authorization": "Bearer scrape-token"})


def test_metrics_include_the_depth_of_the_outbox(client: FlaskClient, app: Flask) -> None:
    from journals import write_question

    from qacli.domain import Question
    from qacli.web import state

    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    before = of(numbers(client), "qa_outbox_depth")
    journal = running.outbox.open()
    write_question(journal, Question(question="Waiting"))
    found = numbers(client)
    assert of(found, "qa_outbox_depth") == before + 1
    assert of(found, "qa_outbox_bytes") > 100
    journal.discard()
    assert of(numbers(client), "qa_outbox_depth") == before


def test_metrics_count_cached_and_reasoning_tokens_apart(client: FlaskClient, app: Flask) -> None:
    from qacli.domain import Outcome, Question, Status
    from qacli.web import metrics

    counter: metrics.Metrics = app.extensions[metrics.EXTENSION_KEY]
    outcome = Outcome(status=Status.ANSWERED, prompt_tokens=9, cached_tokens=4, reasoning_tokens=2)
    counter.question_started(Question(question="?"))(outcome)
    samples = numbers(client)
    assert of(samples, "qa_token_parts_total", kind="cached") == 4
    assert of(samples, "qa_token_parts_total", kind="reasoning") == 2
    assert of(samples, "qa_tokens_total", kind="prompt") == 9

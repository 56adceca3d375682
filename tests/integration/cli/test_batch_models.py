"""`qa batch FILE -m A -m B`: each question of each model, in one batch."""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from databases import count_records
from fake_provider import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Finished
    from conftest import Invoke
    from fake_provider import FakeProvider

MODELS = ("-m", "gpt-4o", "-m", "gpt-4o-mini")
NAMES = ["gpt-4o", "gpt-4o-mini"]


@pytest.fixture
def run(invoke: Invoke, home: Path) -> Any:
    """Return a function that runs the batch `n` of a table with these words."""

    def run(
        *options: str, words: tuple[str, ...] = ("one", "two"), models: Any = MODELS
    ) -> Finished:
        lines = [f"{number},{word}\n" for number, word in enumerate(words)]
        (home / "w.csv").write_text("id,word\n" + "".join(lines))
        return invoke("batch", "w.csv", "--column", "word", "--name", "n", *models, *options)

    return run


def requests_of(provider: FakeProvider) -> list[tuple[str, str]]:
    """Return the question and the model of each request, sorted."""
    return sorted((request.question, request.body["model"]) for request in provider.requests)


def test_batch_models_each_question_is_asked_of_each(
    run: Any, provider: FakeProvider, home: Path, database_url: str, invoke: Invoke
) -> None:
    done = run("-o", "out.csv")
    assert done.code == 0, done.err
    expected = sorted((word, model) for word in ("one", "two") for model in NAMES)
    assert requests_of(provider) == expected
    rows = list(csv.DictReader((home / "out.csv").read_text().splitlines()))
    assert [(row["id"], row["word"], row["model"], row["answer"]) for row in rows] == [
        (id_, word, model, f"Answer to: {word}")
        for id_, word in (("0", "one"), ("1", "two"))
        for model in NAMES
    ]
    # The same command asks nothing; a row that was added is asked of both.
    assert run("-o", "out.csv").code == 0
    assert requests_of(provider) == expected
    assert run("-o", "out.csv", words=("one", "two", "three")).code == 0
    assert requests_of(provider) == sorted([*expected, ("three", NAMES[0]), ("three", NAMES[1])])
    assert count_records(database_url) == 6
    shown = json.loads(invoke("batch", "show", "n", "--json").out)
    assert {model: states["answered"] for model, states in shown["models"].items()} == {
        "gpt-4o": 3,
        "gpt-4o-mini": 3,
    }
    assert "gpt-4o-mini  3 answered" in invoke("batch", "show", "n").out
    lines = invoke("batch", "results", "n", "--model", "gpt-4o", "--no-join").out.splitlines()
    assert [json.loads(line)["item_key"] for line in lines] == [f"{n}:gpt-4o" for n in range(3)]


def test_batch_models_failed_items_are_asked_again_of_their_model(
    run: Any, provider: FakeProvider, invoke: Invoke
) -> None:
    done = run(words=("one", "two [[status=400 message=No. times=1]]"))
    assert done.code == 8, done.err
    failed = json.loads(invoke("batch", "show", "n", "--json").out)["models"]
    before = Counter(model for _, model in requests_of(provider))
    done = run("--retry-failed", words=("one", "two [[status=400 message=No. times=1]]"))
    again = Counter(model for _, model in requests_of(provider)) - before
    assert again == Counter({m: s["failed"] for m, s in failed.items() if s["failed"]})


def test_batch_models_others_than_those_of_the_batch_are_refused(run: Any) -> None:
    assert run().code == 0
    done = run(models=("-m", "gpt-4o", "-m", "other"))
    assert done.code == 2
    assert "models was ['gpt-4o', 'gpt-4o-mini'], is ['gpt-4o', 'other']" in done.err
    # Two names of the same model are one model: the batch has one.
    assert run(models=("-m", "gpt-4o", "-m", "gpt-4o")).code == 2


def test_batch_models_share_one_budget(run: Any, provider: FakeProvider, invoke: Invoke) -> None:
    words = tuple(f"word {number}" for number in range(10))
    # The first question is always asked: only its answer shows the cost of one.
    done = run("--max-cost", "0.000000001", words=words)
    assert "budget of 1e-09 US dollars would be passed" in done.err
    assert len(provider.requests) == 1
    assert run("--max-cost", "1", words=words).code == 0
    shown = json.loads(invoke("batch", "show", "n", "--json").out)
    assert 0 < shown["spent_usd"] < shown["max_cost_usd"] == 1


def test_batch_models_one_without_a_price_has_no_budget(run: Any, provider: FakeProvider) -> None:
    done = run("--max-cost", "1", models=("-m", "gpt-4o", "-m", "unpriced"))
    assert done.code == 2
    assert "The model unpriced has no price" in done.err
    assert provider.requests == []


def test_batch_models_local_beside_others_or_a_model_of_a_row_is_refused(
    run: Any, invoke: Invoke, home: Path, provider: FakeProvider
) -> None:
    done = run(models=("-m", "local", "-m", "gpt-4o"))
    assert (done.code, "qa batch compare" in done.err) == (2, True)
    (home / "q.jsonl").write_text('{"question": "one", "model": "x"}\n{"question": "two"}\n')
    done = invoke("batch", "q.jsonl", *MODELS)
    assert done.code == 2
    assert "Line 1: it has a model of its own, 'x'" in done.err
    assert provider.requests == []
    assert invoke("batch", "q.jsonl", *MODELS, "--skip-bad").code == 8
    assert requests_of(provider) == [("two", "gpt-4o"), ("two", "gpt-4o-mini")]


def test_batch_models_one_that_is_gone_stops_the_batch(
    run: Any, provider: FakeProvider, invoke: Invoke
) -> None:
    # Answers of the other model do not reset the count.
    provider.default = lambda request: (
        "status=404" if request.body["model"] == "gpt-4o-mini" else Reply()
    )
    words = tuple(f"word {number}" for number in range(30))
    done = run("--max-failures", "3", "--jobs", "1", words=words)
    assert "refused 3 questions in a row" in done.err
    states = json.loads(invoke("batch", "show", "n", "--json").out)["models"]
    assert states["gpt-4o-mini"]["failed"] == 0
    assert states["gpt-4o"]["answered"] >= 2


def test_batch_models_dry_run_estimates_all(run: Any, provider: FakeProvider) -> None:
    both = json.loads(run("--dry-run", "--json").out)
    one = json.loads(run("--dry-run", "--json", models=MODELS[:2]).out)
    assert (both["items"], one["items"]) == (4, 2)
    assert both["cost_usd"] > one["cost_usd"]
    assert provider.requests == []


def test_batch_models_via_batch_api_has_one_model_a_part(
    run: Any, provider: FakeProvider, invoke: Invoke
) -> None:
    done = run("--via", "batch-api")
    assert done.code == 0, done.err
    shown = json.loads(invoke("batch", "show", "n", "--json").out)
    assert sorted((part["model"], part["items"]) for part in shown["parts"]) == [
        ("gpt-4o", 2),
        ("gpt-4o-mini", 2),
    ]
    assert shown["states"]["answered"] == 4
    assert not [request for request in provider.requests if "chat" in request.path]


def test_batch_models_requests_of_one_model_come_back_by_take(
    run: Any, invoke: Invoke, home: Path
) -> None:
    assert run("--via", "file").code == 0
    assert "has 2 models" in invoke("batch", "requests", "n", "-o", "all.jsonl").err
    lines = invoke("batch", "requests", "n", "--model", "gpt-4o-mini").out.splitlines()
    requests = [json.loads(line) for line in lines]
    assert [(item["custom_id"], item["body"]["model"]) for item in requests] == [
        ("0:gpt-4o-mini", "gpt-4o-mini"),
        ("1:gpt-4o-mini", "gpt-4o-mini"),
    ]
    answer = {"choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}]}
    results = [
        {"custom_id": item["custom_id"], "response": {"status_code": 200, "body": answer}}
        for item in requests
    ]
    (home / "r.jsonl").write_text("".join(json.dumps(item) + "\n" for item in results))
    assert "2 answers" in invoke("batch", "take", "n", "r.jsonl").out
    states = json.loads(invoke("batch", "show", "n", "--json").out)["models"]
    assert (states["gpt-4o"]["waiting"], states["gpt-4o-mini"]["answered"]) == (2, 2)

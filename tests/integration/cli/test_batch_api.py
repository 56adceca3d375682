"""`qa batch FILE --via batch-api` and `qa batch collect`, with the faults of real providers."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from databases import count_records

from qacli.config.database_url import with_driver
from qacli.db.batch_parts import BatchParts
from qacli.db.batches import Batches
from qacli.db.records import Store

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Finished
    from conftest import Invoke
    from fake_provider import FakeProvider
    from fake_provider.batches import BatchApi, BatchFaults

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
Submit = "Callable[..., Finished]"


@pytest.fixture
def api(provider: FakeProvider) -> BatchApi:
    return provider.batch_api


@pytest.fixture
def faults(api: BatchApi) -> BatchFaults:
    return api.faults


@pytest.fixture
def batches(database_url: str) -> Batches:
    return Batches(Store.open(with_driver(database_url) or ""))


@pytest.fixture
def submit(invoke: Invoke, tmp_path: Path) -> Submit:
    """Send questions, or items, through the Batch API."""

    def submit(*items: str | dict[str, Any], options: tuple[str, ...] = ()) -> Finished:
        rows = [{"question": item} if isinstance(item, str) else item for item in items]
        if rows:
            lines = (json.dumps({"id": f"k{n}", **row}) + "\n" for n, row in enumerate(rows))
            (tmp_path / "q.jsonl").write_text("".join(lines))
        file = str(tmp_path / "q.jsonl")
        return invoke("batch", file, "--name", "n", "--via", "batch-api", *options)

    return submit


def show(invoke: Invoke) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(invoke("batch", "show", "n", "--json").out)
    return shown


def records(invoke: Invoke) -> dict[str, dict[str, Any]]:
    return {record["item_key"]: record for record in json.loads(invoke("list", "--json").out)}


def direct_questions(provider: FakeProvider) -> list[str]:
    return [request.question for request in provider.requests if "chat" in request.path]


def steps(provider: FakeProvider) -> Counter[str]:
    """Count the requests to files and batches."""
    return Counter(
        f"{request.method} {'/'.join(request.path.split('?')[0].split('/')[2:3])}"
        for request in provider.requests
    )


def test_batch_api_answers_every_question_at_half_the_price_and_deletes_its_files(
    submit: Submit, invoke: Invoke, api: BatchApi, provider: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "prices.toml").write_text('"test-model" = [0.0, 1000000.0]\n')
    done = submit("One", "Two", options=("-o", str(tmp_path / "out.jsonl")))
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == ["Answer to: One", "Answer to: Two"]
    # Three tokens at half a dollar; the reply names the service tier "default".
    assert [line["cost_usd"] for line in lines] == [1.5, 1.5]
    assert {line["status"] for line in lines} == {"answered"}
    assert api.files == {}
    assert direct_questions(provider) == []
    assert show(invoke)["spent_usd"] == 3.0


def test_batch_api_sends_one_file_for_each_model(submit: Submit, api: BatchApi) -> None:
    models = ("x", "y", "x", "y", "z")
    done = submit(*({"question": f"{n}", "model": model} for n, model in enumerate(models)))
    assert done.code == 0, done.err
    assert sorted(batch.total for batch in api.batches.values()) == [1, 2, 2]


def test_detached_batch_is_collected_later(
    submit: Submit, invoke: Invoke, faults: BatchFaults, api: BatchApi, provider: FakeProvider
) -> None:
    faults.statuses = ("validating", "in_progress", "finalizing", "completed")
    done = submit("One", "Two", options=("--detach", "--window", "48h"))
    assert done.code == 0, done.err
    assert "qa batch collect n" in done.err
    [batch] = api.batches.values()
    assert (batch.window, batch.status) == ("48h", "validating")
    codes = [invoke("batch", "collect", "n").code for _ in range(4)]
    assert codes == [9, 9, 9, 0]
    assert records(invoke)["k1"]["answer"] == "Answer to: Two"
    assert invoke("batch", "collect").code == 0
    assert steps(provider)["POST batches"] == 1


def test_detached_batch_that_is_finished_prints_its_answers_again(
    submit: Submit, invoke: Invoke, faults: BatchFaults, provider: FakeProvider
) -> None:
    faults.statuses = ("completed",)
    assert submit("One", options=("--detach",)).code == 0
    assert invoke("batch", "collect", "n").code == 0
    done = submit("One", options=("--detach",))
    assert done.code == 0, done.err
    assert json.loads(done.out)["answer"] == "Answer to: One"
    assert "Submitted" not in done.err
    assert steps(provider)["POST batches"] == 1


def test_collect_without_a_name_collects_all_batches(
    invoke: Invoke, faults: BatchFaults, tmp_path: Path
) -> None:
    faults.statuses = ("completed",)
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"Question {name}\n")
        arguments = ("--name", name, "--via", "batch-api", "--detach")
        assert invoke("batch", str(tmp_path / f"{name}.txt"), *arguments).code == 0
    assert invoke("batch", "collect").code == 0
    assert len(records(invoke)) == 2


def test_failed_lines_are_failures_and_the_rest_is_asked_directly(
    submit: Submit, invoke: Invoke, provider: FakeProvider
) -> None:
    done = submit("One", "Two [[status=400]]", "Three [[status=500 times=1]]")
    assert done.code == 8, done.err
    found = records(invoke)
    assert {key: record["status"] for key, record in found.items()} == {
        "k0": "answered",
        "k1": "failed",
        "k2": "answered",
    }
    assert found["k1"]["error_kind"] == "provider-refused"
    assert direct_questions(provider) == ["Three [[status=500 times=1]]"]


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_expired_batch_has_its_answers_taken_and_its_rest_asked(
    submit: Submit, invoke: Invoke, faults: BatchFaults, provider: FakeProvider, status: str
) -> None:
    faults.statuses, faults.unexecuted = ("in_progress", status), ("k1",)
    done = submit("One", "Two")
    assert done.code == 0, done.err
    assert direct_questions(provider) == ["Two"]
    assert len(records(invoke)) == 2


def test_rest_again_is_submitted_again(
    submit: Submit, faults: BatchFaults, api: BatchApi, provider: FakeProvider
) -> None:
    faults.statuses, faults.unexecuted = ("expired",), ("k1",)
    done = submit("One", "Two", options=("--rest", "again"))
    assert done.code == 0, done.err
    # After three rounds the rest is asked directly.
    assert [batch.total for batch in api.batches.values()] == [2, 1, 1, 1]
    assert direct_questions(provider) == ["Two"]


def test_rest_leave_keeps_questions_waiting(
    submit: Submit, invoke: Invoke, faults: BatchFaults, provider: FakeProvider
) -> None:
    faults.skip = ("k1",)
    done = submit("One", "Two", options=("--rest", "leave"))
    assert done.code == 8, done.err
    assert show(invoke)["states"]["waiting"] == 1
    assert invoke("batch", "collect", "n").code == 8
    assert direct_questions(provider) == []
    faults.skip = ()
    assert submit(options=("--rest", "leave")).code == 0


def test_unfit_answer_is_corrected_directly_in_the_same_record(
    submit: Submit, invoke: Invoke, provider: FakeProvider
) -> None:
    provider.script("text=nothing", "text='{\"n\": 1}'")
    done = submit({"question": "One", "schema": SCHEMA})
    assert done.code == 0, done.err
    record = records(invoke)["k0"]
    assert record["answer"] == '{"n": 1}'
    assert record["completion_tokens"] == 3  # one word and two
    [request] = [request for request in provider.requests if "chat" in request.path]
    roles = [message["role"] for message in request.body["messages"]]
    assert roles == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    "fault",
    [
        {"hidden": 3},
        {"drop_metadata": True},
        {"empty_ids": True},
        {"upper": True},
        {"duplicate": True},
        {"separator": "\u2028"},
        {"broken_downloads": 2},
        {"lost_creations": 1},
        {"lost_creations": 1, "drop_metadata": True},
        {"lost_uploads": 1},
        {"queue_refusals": 1},
        {"queue_failures": 2},
        {"max_lines": 2},
    ],
    ids="-".join,
)
def test_batch_api_fault_costs_no_answer_and_no_second_payment(
    submit: Submit,
    invoke: Invoke,
    api: BatchApi,
    provider: FakeProvider,
    fault: dict[str, Any],
) -> None:
    for name, value in fault.items():
        setattr(api.faults, name, value)
    done = submit(*(f"Question {number}" for number in range(7)))
    assert done.code == 0, done.err
    found = records(invoke)
    assert len(found) == 7
    assert {record["status"] for record in found.values()} == {"answered"}
    for number in range(7):
        assert provider.asked(f"Question {number}") == 1
    submitted = [batch.total for batch in api.batches.values() if batch.status != "failed"]
    assert sum(submitted) == 7
    if "separator" in fault:
        assert found["k0"]["answer"] == "One\u2028two"
    if "max_lines" in fault:
        assert max(submitted) <= 2


def test_results_of_vllm_form_are_taken(
    submit: Submit, invoke: Invoke, faults: BatchFaults
) -> None:
    faults.vllm = True
    assert submit("One", "Two [[status=400]]").code == 8
    assert records(invoke)["k1"]["error_kind"] == "provider-refused"


def test_batch_with_errors_alone_is_taken(submit: Submit, invoke: Invoke) -> None:
    done = submit("One [[status=400]]", "Two [[status=400]]")
    assert done.code == 8, done.err
    assert {record["status"] for record in records(invoke).values()} == {"failed"}


def test_invalid_line_is_a_failure_and_the_others_are_asked(
    submit: Submit, invoke: Invoke, faults: BatchFaults, provider: FakeProvider
) -> None:
    faults.invalid_line = 2
    done = submit("One", "Two", "Three")
    assert done.code == 8, done.err
    found = records(invoke)
    assert found["k1"]["status"] == "failed"
    assert "line is not valid" in found["k1"]["error"]
    assert sorted(direct_questions(provider)) == ["One", "Three"]


def test_refused_batch_stops_with_the_reason_and_asks_nothing(
    submit: Submit, invoke: Invoke, faults: BatchFaults, provider: FakeProvider
) -> None:
    faults.refusal = "The billing limit has been reached."
    done = submit("One", "Two")
    assert done.code == 5
    assert "billing limit" in done.err
    assert show(invoke)["states"]["waiting"] == 2
    assert invoke("batch", "collect", "n").code == 8
    assert direct_questions(provider) == []
    faults.refusal = None
    assert submit().code == 0


def test_batch_of_another_project_is_not_submitted_again(
    submit: Submit, invoke: Invoke, faults: BatchFaults, provider: FakeProvider
) -> None:
    assert submit("One", options=("--detach",)).code == 0
    faults.foreign = True
    done = invoke("batch", "collect", "n")
    assert done.code == 5
    assert "another key or project" in done.err
    faults.foreign = False
    assert invoke("batch", "collect", "n").code in {0, 9}
    assert invoke("batch", "collect", "n").code == 0
    assert steps(provider)["POST batches"] == 1


def test_unknown_submission_without_a_list_is_not_repeated(
    submit: Submit, faults: BatchFaults, api: BatchApi
) -> None:
    faults.lost_creations, faults.no_list = 1, True
    done = submit("One")
    assert done.code == 5
    assert "provider's page" in done.err
    assert len(api.batches) == 1
    faults.no_list = False
    assert submit().code == 0
    assert len(api.batches) == 1


def test_provider_without_a_batch_api_is_reported(
    submit: Submit, invoke: Invoke, provider: FakeProvider
) -> None:
    provider.without = ("/v1/batches",)
    done = submit("One")
    assert done.code == 5
    assert "no Batch API" in done.err
    assert show(invoke)["states"]["waiting"] == 1
    assert invoke("batch", "rm", "n").code == 0


def test_questions_at_the_provider_are_not_asked_directly(
    submit: Submit, invoke: Invoke, provider: FakeProvider, tmp_path: Path
) -> None:
    assert submit("One", options=("--detach",)).code == 0
    for arguments in (
        (str(tmp_path / "q.jsonl"), "--name", "n"),
        (str(tmp_path / "q.jsonl"), "--name", "n", "--via", "file"),
        ("work", "n"),
        ("rm", "n"),
    ):
        done = invoke("batch", *arguments)
        assert done.code == 2, arguments
        assert "qa batch collect n" in done.err
    assert invoke("batch", "work").code == 0
    assert [invoke("batch", "collect", "n").code for _ in range(2)] == [9, 0]
    assert direct_questions(provider) == []


def test_cancel_ends_the_batch_at_the_provider_and_keeps_its_answers(
    submit: Submit, invoke: Invoke, faults: BatchFaults, api: BatchApi, provider: FakeProvider
) -> None:
    faults.statuses, faults.unexecuted = ("in_progress",), ("k1",)
    assert submit("One", "Two", options=("--detach",)).code == 0
    done = invoke("batch", "cancel", "n")
    assert done.code == 0, done.err
    assert "qa batch collect n" in done.out
    [batch] = api.batches.values()
    assert batch.status == "cancelling"
    assert invoke("batch", "collect", "n").code == 8
    assert records(invoke)["k0"]["answer"] == "Answer to: One"
    assert show(invoke)["states"]["waiting"] == 1
    assert direct_questions(provider) == []
    assert invoke("batch", "rm", "n").code == 0


def test_json_is_the_state_at_the_end(submit: Submit) -> None:
    done = submit("One", options=("--json", "-o", "out.jsonl"))
    assert done.code == 0, done.err
    assert json.loads(done.out)["states"]["answered"] == 1


def test_rm_with_force_removes_a_batch_that_is_at_the_provider(
    submit: Submit, invoke: Invoke, database_url: str
) -> None:
    assert submit("One", options=("--detach",)).code == 0
    assert invoke("batch", "rm", "n", "--force").code == 0
    with Store.open(with_driver(database_url) or "").transaction() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM batch_part")) == 0


def test_show_and_list_tell_the_state_at_the_provider(
    submit: Submit, invoke: Invoke, faults: BatchFaults, api: BatchApi
) -> None:
    faults.statuses = ("in_progress",)
    assert submit("One", "Two", options=("--detach",)).code == 0
    assert invoke("batch", "collect", "n").code == 9
    [batch] = api.batches.values()
    [part] = show(invoke)["parts"]
    assert (part["state"], part["remote_status"], part["items"]) == ("submitted", "in_progress", 2)
    assert part["remote_id"] == batch.id
    shown = invoke("batch", "show", "n").out
    assert f"{batch.id}, in_progress, 0 of 2 done" in shown
    assert "1 part at the provider" in invoke("batch", "list").out


def test_budget_limits_the_submitted_items(
    submit: Submit, invoke: Invoke, api: BatchApi, tmp_path: Path
) -> None:
    (tmp_path / "prices.toml").write_text('"test-model" = [0.0, 1000.0]\n')
    # An answer of 1,000 tokens costs half a dollar.
    done = submit("One", "Two", "Three", options=("--max-cost", "1.1", "--detach"))
    assert done.code == 0, done.err
    [batch] = api.batches.values()
    assert batch.total == 2
    assert show(invoke)["reserved_usd"] == 1.0


def test_options_of_the_batch_api_need_it(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("One\n")
    done = invoke("batch", str(tmp_path / "q.txt"), "--detach")
    assert done.code == 2
    assert "--via batch-api" in done.err
    assert invoke("batch", str(tmp_path / "q.txt"), "--name", "n", "--via", "file").code == 0
    done = invoke("batch", "collect", "n")
    assert done.code == 2
    assert "--via batch-api" in done.err


def test_item_that_cannot_be_asked_is_a_failure(submit: Submit, database_url: str) -> None:
    done = submit("One", {"question": ""}, options=("--skip-bad",))
    assert done.code == 8, done.err
    assert count_records(database_url) == 2


def test_part_of_another_live_process_is_left_to_it(
    submit: Submit, invoke: Invoke, batches: Batches, faults: BatchFaults
) -> None:
    faults.statuses = ("completed",)
    assert submit("One", options=("--detach",)).code == 0
    [batch] = batches.all()
    batches.register_worker(batch.id or 0, "other", "host", "journal")
    parts = BatchParts(batches.store)
    [part] = parts.all(batch.id or 0)
    assert parts.take_over(part, "other")
    assert invoke("batch", "collect", "n").code == 9
    batches.unregister_worker("other")
    assert invoke("batch", "collect", "n").code == 0


def test_rows_moved_while_a_part_is_open_are_refused(submit: Submit, invoke: Invoke) -> None:
    first, second = {"id": "a", "question": "One"}, {"id": "b", "question": "Two"}
    assert submit(first, second, options=("--detach",)).code == 0
    done = submit(second, first, options=("--detach",))
    assert (done.code, "are at the provider's Batch API" in done.err) == (2, True), done.err
    assert invoke("batch", "collect", "n").code in {0, 9}
    assert {record["question"] for record in records(invoke).values()} <= {"One", "Two"}

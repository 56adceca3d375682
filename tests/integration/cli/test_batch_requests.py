"""`qa batch requests` and `qa batch take`: the Batch API by files."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from databases import count_records

from qacli.config.database_url import with_driver
from qacli.db.batch_parts import BatchParts
from qacli.db.batches import Batches
from qacli.db.records import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke
    from fake_provider import FakeProvider


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
WITH_SCHEMA = json.dumps({"id": "a", "question": "a", "schema": SCHEMA}) + "\n"


@pytest.fixture
def load(invoke: Invoke, tmp_path: Path) -> Any:
    """Return a function that loads questions, and returns the lines of `qa batch requests`."""

    def load(text: str, *options: str, name: str = "q.txt") -> list[dict[str, Any]]:
        (tmp_path / name).write_text(text)
        done = invoke("batch", str(tmp_path / name), "--name", "n", "--via", "file", *options)
        assert done.code == 0, done.err
        done = invoke("batch", "requests", "n")
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    return load


def result(custom_id: str, text: str = "Yes", **body: Any) -> dict[str, Any]:
    """Return a line of an output file as OpenAI's documentation has it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    answer = {
        "id": f"chatcmpl-{custom_id}",
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2},
        **body,
    }
    return {
        "id": "batch_req_123",
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": "req_123", "body": answer},
        "error": None,
    }


def error(custom_id: str, status: int, code: str, message: str) -> dict[str, Any]:
    """Return a line of an error file of a request that was executed."""
    body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def write(file: Path, *lines: dict[str, Any]) -> str:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return str(file)


def records(invoke: Invoke) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(invoke("list", "--json").out)
    return sorted(listed, key=lambda record: record["item_key"])


def test_requests_of_a_batch_have_its_options_and_need_no_key(
    load: Any, provider: FakeProvider, invoke: Invoke
) -> None:
    invoke.env["OPENAI_API_KEY"] = ""
    lines = load("One\nTwo\n", "--system", "Be brief.", "--temperature", "0.5", "-m", "gpt-x")
    assert [line["method"] for line in lines] == ["POST", "POST"]
    assert {line["url"] for line in lines} == {"/v1/chat/completions"}
    assert len({line["custom_id"] for line in lines}) == 2
    assert lines[0]["body"] == {
        "model": "gpt-x",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
        ],
        "temperature": 0.5,
    }
    assert provider.requests == []


def test_batch_requests_use_the_key_or_for_unusual_keys_the_position(
    load: Any,
) -> None:
    keys = ["a-1", "Zürich", "x" * 65, "qa-item-1", "b.c:d_e"]
    text = "".join(json.dumps({"id": key, "question": key}) + "\n" for key in keys)
    ids = [line["custom_id"] for line in load(text, name="q.jsonl")]
    assert ids == ["a-1", "qa-item-2", "qa-item-3", "qa-item-4", "b.c:d_e"]


def test_requests_of_batch_api_lines_have_the_same_bodies(load: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "One"}], "seed": 3}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert load(json.dumps(line) + "\n", name="q.jsonl") == [line]


def test_requests_go_to_a_file_that_is_not_replaced(
    load: Any, invoke: Invoke, tmp_path: Path
) -> None:
    load("One\n")
    file = tmp_path / "r.jsonl"
    assert invoke("batch", "requests", "n", "-o", str(file)).code == 0
    assert json.loads(file.read_text())["body"]["messages"][0]["content"] == "One"
    done = invoke("batch", "requests", "n", "-o", str(file))
    assert done.code == 2
    assert "exists" in done.err
    assert invoke("batch", "requests", "n", "-o", str(file), "--force").code == 0
    assert len(file.read_text().splitlines()) == 1


def test_requests_of_several_models_are_named(load: Any, invoke: Invoke) -> None:
    load('{"question": "a", "model": "x"}\n{"question": "b", "model": "y"}\n', name="q.jsonl")
    assert "2 models" in invoke("batch", "requests", "n").err


def test_take_stores_answers_and_errors_and_the_rest_waits(
    load: Any, invoke: Invoke, tmp_path: Path
) -> None:
    text = "".join(json.dumps({"id": key, "question": key}) + "\n" for key in "abcde")
    load(text, "-m", "gpt-4o-mini", name="q.jsonl")
    output = write(tmp_path / "out.jsonl", result("a", "Line\u2028separator"))
    errors = write(
        tmp_path / "err.jsonl.gz",
        error("b", 400, "invalid_value", "The image is too large."),
        error("c", 429, "rate_limit_exceeded", "Too many requests."),
        {
            "id": "batch_req_9",
            "custom_id": "d",
            "response": None,
            "error": {"code": "batch_expired", "message": "This request could not be executed."},
        },
    )
    done = invoke("batch", "take", "n", output, errors)
    assert done.code == 8, done.err
    assert done.out.splitlines() == [
        "1 answers",
        "1 questions that the provider refused",
        "2 questions that were not answered; they are waiting",
    ]
    a, b = records(invoke)
    assert (a["answer"], a["status"], a["model"]) == (
        "Line\u2028separator",
        "answered",
        "gpt-4o-mini-2024-07-18",
    )
    assert (b["status"], b["error_kind"]) == ("failed", "provider-refused")
    assert "image is too large" in b["error"]
    waiting = [json.loads(line) for line in invoke("batch", "requests", "n").out.splitlines()]
    assert [line["custom_id"] for line in waiting] == ["c", "d", "e"]


def test_take_of_the_same_file_again_changes_nothing(
    load: Any, invoke: Invoke, tmp_path: Path
) -> None:
    load('{"id": "a", "question": "a"}\n', name="q.jsonl")
    file = write(tmp_path / "out.jsonl", result("a"), result("a", "Another"))
    assert invoke("batch", "take", "n", file).code == 0
    [before] = records(invoke)
    done = invoke("batch", "take", "n", file)
    assert done.code == 0
    assert "0 answers" in done.out
    assert records(invoke) == [before]
    assert before["answer"] == "Yes"


def test_take_counts_the_price_of_a_batch_once(
    load: Any, invoke: Invoke, tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "prices.toml").write_text('"gpt-4o-mini-2024-07-18" = [1.0, 3.0]\n')
    load(WITH_SCHEMA, name="q.jsonl")
    # The answer does not fit: the record is stored again with the second file.
    file = write(tmp_path / "out.jsonl", result("a", "no JSON", service_tier="default"))
    for _ in range(2):
        assert invoke("batch", "take", "n", file).code == 8
    [record] = records(invoke)
    assert record["cost_usd"] == 2.0
    [batch] = Batches(Store.open(with_driver(database_url) or "")).all()
    assert batch.spent_usd == 2.0


def test_take_reads_results_of_vllm_run_batch(load: Any, invoke: Invoke, tmp_path: Path) -> None:
    text = "".join(json.dumps({"id": key, "question": key}) + "\n" for key in "abc")
    load(text, name="q.jsonl")
    answer = result("a")
    answer["id"] = "vllm-123"
    answer["response"]["body"] |= {"prompt_logprobs": None, "kv_transfer_params": None}
    old, new = (
        {
            "id": "vllm-9",
            "custom_id": key,
            "response": {"status_code": 400, "request_id": "vllm-batch-1", "body": None},
            "error": error,
        }
        for key, error in (
            (
                "b",
                {"object": "error", "message": "Too long.", "type": "BadRequestError", "code": 400},
            ),
            ("c", {"error": {"message": "No such.", "type": "NotFoundError", "code": 404}}),
        )
    )
    done = invoke("batch", "take", "n", write(tmp_path / "out.jsonl", answer, old, new))
    assert done.code == 8, done.err
    a, b, c = records(invoke)
    assert a["answer"] == "Yes"
    assert "Too long" in b["error"]
    assert "No such" in c["error"]
    assert (b["status"], c["status"]) == ("failed", "failed")


VLLM_ANSWER = {
    "id": "chatcmpl-39d7",
    "object": "chat.completion",
    "created": 1795801874,
    "model": "Qwen/Qwen3-0.6B",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Yes",
                "reasoning": "It is.",
                **dict.fromkeys(("refusal", "annotations", "audio", "function_call")),
            },
            "logprobs": None,
            "finish_reason": "stop",
            **dict.fromkeys(("stop_reason", "token_ids", "routed_experts", "weight_versions")),
        }
    ],
    "service_tier": None,
    "system_fingerprint": None,
    "usage": {
        "prompt_tokens": 9,
        "total_tokens": 12,
        "completion_tokens": 3,
        **dict.fromkeys(("prompt_tokens_details", "completion_tokens_details")),
    },
    **dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text", "metrics")),
    **dict.fromkeys(("kv_transfer_params", "ec_transfer_params")),
}
"""An answer as vLLM 0.33 writes it with its own classes."""


def vllm_line(custom_id: str, *, body: Any = None, error: Any = None) -> dict[str, Any]:
    status = 200 if error is None else 400
    response = {"status_code": status, "request_id": "vllm-batch-1", "body": body}
    return {"id": "vllm-1", "custom_id": custom_id, "response": response, "error": error}


def test_requests_of_a_batch_come_back_from_vllm_run_batch(
    load: Any, invoke: Invoke, tmp_path: Path
) -> None:
    rows = "".join(f"{key},word {key}\n" for key in "abc")
    lines = load(f"id,text\n{rows}", "--temperature", "0", "--max-tokens", "9", name="q.csv")
    # vLLM parses a line as its BatchRequestInput: these four fields, and a chat request by its URL.
    assert {*lines[0]} == {"custom_id", "method", "url", "body"}
    assert (lines[0]["method"], lines[0]["url"]) == ("POST", "/v1/chat/completions")
    assert "stream" not in lines[0]["body"]
    wrapped = {"message": "Too long.", "type": "BadRequestError", "param": None, "code": 400}
    results = [
        vllm_line(lines[0]["custom_id"], body=VLLM_ANSWER),
        vllm_line(lines[1]["custom_id"], error={"error": wrapped}),
        vllm_line(lines[2]["custom_id"], error="URL /v1/x is not a supported endpoint."),
    ]
    done = invoke("batch", "take", "n", write(tmp_path / "out.jsonl", *results))
    assert done.code == 8, done.err
    a, b, c = records(invoke)
    assert (a["answer"], a["reasoning"], a["prompt_tokens"]) == ("Yes", "It is.", 9)
    assert a["model"] == "Qwen/Qwen3-0.6B"
    assert b["error"] == "The provider answered 400: Too long."
    assert c["error"] == "The provider answered 400: URL /v1/x is not a supported endpoint."


def test_take_reads_results_of_sglang(load: Any, invoke: Invoke, tmp_path: Path) -> None:
    load("a\n")
    requests = invoke("batch", "requests", "n").out
    (custom_id,) = (json.loads(line)["custom_id"] for line in requests.splitlines())
    answer = result(custom_id)
    body = answer["response"]["body"]
    # SGLang has one choice in place of a list of them, and its finish reason as an object.
    choice = {**body["choices"][0], "finish_reason": {"type": "stop", "matched": 2}}
    body |= {"choices": choice, "system_fingerprint": None}
    done = invoke("batch", "take", "n", write(tmp_path / "out.jsonl", answer))
    assert done.code == 0, done.err
    (record,) = records(invoke)
    assert (record["answer"], record["finish_reason"]) == ("Yes", "stop")


def test_take_ignores_lines_without_a_result_of_the_batch(
    load: Any, invoke: Invoke, tmp_path: Path
) -> None:
    load('{"id": "a", "question": "a"}\n', name="q.jsonl")
    file = tmp_path / "out.jsonl"
    deep = "[" * 100_000
    file.write_text(f'not json\n\n{{"custom_id": 3}}\n{deep}\n{json.dumps(result("other"))}\n')
    done = invoke("batch", "take", "n", str(file))
    assert done.code == 8
    assert "3 lines that are not results" in done.out
    assert "1 lines without effect" in done.out
    assert invoke("batch", "take", "n", str(tmp_path / "none.jsonl")).code == 2
    assert invoke("batch", "take", "other", str(file)).code == 4


def test_take_from_standard_input_replaces_a_failure_but_no_answer(
    load: Any, invoke: Invoke, tmp_path: Path, database_url: str
) -> None:
    load('{"id": "a", "question": "a"}\n', name="q.jsonl")
    failed = write(tmp_path / "err.jsonl", error("a", 400, "x", "Bad."))
    assert invoke("batch", "take", "n", failed).code == 8
    done = invoke("batch", "take", "n", "-", input=json.dumps(result("a")))
    assert (done.code, done.out) == (0, "1 answers\n")
    assert invoke("batch", "take", "n", failed).code == 0
    assert count_records(database_url) == 1
    assert records(invoke)[0]["status"] == "answered"


def test_take_of_an_answer_that_does_not_fit_is_corrected_directly(
    load: Any, invoke: Invoke, provider: FakeProvider, tmp_path: Path
) -> None:
    load(WITH_SCHEMA, name="q.jsonl")
    done = invoke("batch", "take", "n", write(tmp_path / "out.jsonl", result("a", "no JSON")))
    assert done.code == 8
    assert "do not fit the schema" in done.out
    assert invoke("batch", "requests", "n").out == ""
    provider.script("text='{\"n\": 1}'")
    done = invoke("batch", str(tmp_path / "q.jsonl"), "--name", "n")
    assert done.code == 0, done.err
    [request] = provider.requests
    assert [message["content"] for message in request.body["messages"]][:2] == ["a", "no JSON"]
    [record] = records(invoke)
    assert record["answer"] == '{"n": 1}'
    assert record["prompt_tokens"] > 1_000_000  # of both answers


def test_results_of_the_responses_api_are_taken(load: Any, invoke: Invoke, tmp_path: Path) -> None:
    lines = load('{"id": "a", "question": "a", "max_tokens": 9}\n', name="q.jsonl")
    assert lines[0]["url"] == "/v1/chat/completions"
    invoke.env["QA_API"] = "responses"
    [line] = [json.loads(line) for line in invoke("batch", "requests", "n").out.splitlines()]
    assert line["url"] == "/v1/responses"
    assert "stream" not in line["body"]
    text = {"type": "output_text", "text": "Yes", "annotations": []}
    body = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [{"type": "message", "role": "assistant", "content": [text]}],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }
    value = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    assert invoke("batch", "take", "n", write(tmp_path / "out.jsonl", value)).code == 0
    assert records(invoke)[0]["answer"] == "Yes"


def test_items_of_a_part_are_not_taken_for_another_part(load: Any, database_url: str) -> None:
    load('{"id": "a", "question": "a"}\n', name="q.jsonl")
    batches = Batches(Store.open(with_driver(database_url) or ""))
    [batch] = batches.all()
    assert BatchParts(batches.store).open_items(batch.id or 0, ["a"], [], part_id=99) == []

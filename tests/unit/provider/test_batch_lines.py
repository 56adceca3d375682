from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from qacli.errors import BrokenAnswer
from qacli.provider.batch_lines import ResultLine, split_lines
from qacli.provider.response import ChatResponse, ErrorInAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BATCH_EXPIRED = {
    "id": "batch_req_123",
    "custom_id": "request-3",
    "response": None,
    "error": {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    },
}
"""An example of OpenAI's guide to its Batch API."""


def split(content: bytes, size: int) -> list[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    async def lines() -> list[bytes]:
        return [line async for line in split_lines(chunks())]

    return asyncio.run(lines())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_split_lines_splits_at_line_feeds_only(size: int) -> None:
    lines = ["a\u2028b\u2029c", "d\x85e\x0bf\x1cg", "h\r", "last"]
    content = "\n\n".join(lines).encode() + b"\n \n"
    assert split(content, size) == [line.encode() for line in lines]
    assert split(content.strip(), size)[-1] == b"last"
    assert split(b"", size) == []


def parse(value: dict[str, Any]) -> ResultLine:
    return ResultLine.parse(json.dumps(value).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"custom_id": 1}', b"[" * 10_000])
def test_result_line_that_is_no_result_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of the JSON parser, too
        ResultLine.parse(content)


@pytest.mark.parametrize(
    "value",
    [
        BATCH_EXPIRED,
        {"custom_id": "a", "error": {"code": "batch_cancelled", "message": "Cancelled."}},
        {"custom_id": "a", "error": {"code": "request_timeout", "message": "Timed out."}},
        {"custom_id": "a", "response": {"status_code": 0, "request_id": "", "body": {}}},
    ],
)
def test_result_line_of_an_unexecuted_request_is_recognised(value: dict[str, Any]) -> None:
    assert not parse(value).is_executed


@pytest.mark.parametrize(
    ("value", "status", "message"),
    [
        (
            {"response": {"status_code": 429, "body": {"error": {"message": "Slow down."}}}},
            429,
            "Slow down.",
        ),
        (
            {"response": {"status_code": 400, "body": None}, "error": {"message": "Too long."}},
            400,
            "Too long.",
        ),
        (  # vLLM, since 0.11
            {
                "response": {"status_code": 400, "body": None},
                "error": {"error": {"message": "Too long.", "type": "BadRequestError"}},
            },
            400,
            "Too long.",
        ),
        ({"response": None, "error": {"code": "server_error", "message": "Oops."}}, None, "Oops."),
        (  # an error with status 200
            {"response": {"status_code": 200, "body": {"error": {"message": "Oops."}}}},
            None,
            "Oops.",
        ),
    ],
)
def test_result_line_with_an_error_has_its_status_and_message(
    value: dict[str, Any], status: int | None, message: str
) -> None:
    line = parse({"custom_id": "a", **value})
    assert line.is_executed
    with pytest.raises(ErrorInAnswer) as raised:
        line.read_into(ChatResponse())
    assert (raised.value.status, raised.value.error.message) == (status, message)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"response": {"status_code": 200, "body": None}},
        {"response": {"status_code": 200, "body": []}},
        {"response": {"status_code": 200, "body": {"choices": []}}},
        {"response": "text", "error": None},
    ],
)
def test_result_line_without_answer_and_error_is_a_broken_answer(value: dict[str, Any]) -> None:
    with pytest.raises(BrokenAnswer):
        parse({"custom_id": "a", **value}).read_into(ChatResponse())

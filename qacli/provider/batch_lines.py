"""The lines of OpenAI's Batch API: requests, and the results in its output and error files.

A line of a result has a `response` with a status and a body, or an `error`. vLLM's `run-batch` has
both for a request that failed: a response without a body, and the error as the API sends it, or as
a text.
See https://platform.openai.com/docs/api-reference/batch/request-output.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from qacli.domain import ChatRequest, Question
from qacli.errors import BrokenAnswer
from qacli.provider.api import choose_api
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.error_body import ErrorBody, parse_error
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, ErrorInAnswer
from qacli.provider.responses_api import ResponsesApi

if TYPE_CHECKING:
    from qacli.provider.api import Api

BATCH_TIER = "batch"
"""The service tier of all results, whatever tier the body of a result names: half the price."""

NOT_EXECUTED = frozenset(
    {
        *("batch_expired", "batch_cancelled", "request_timeout"),
        "batch_canceled",  # gateways
    }
)
"""Codes of requests that the provider has not answered, and has not charged."""

NOT_SENT_STATUS = 0
"""OpenAI has written this status for requests that it has not sent."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A line of a batch's input file.

    Attributes:
        model: The model; a file may have one only.
        path: The API, such as `/v1/chat/completions`; a file may have one only.
        content: The line, with its end.
    """

    model: str
    path: str
    content: bytes


def request_line(
    question: Question,
    custom_id: str,
    *,
    api: str,
    refused: frozenset[Feature],
    official: bool,
) -> RequestLine:
    """Return the line that asks a question.

    Args:
        question: The question.
        custom_id: The id by which its result is found.
        api: The setting `QA_API`. `auto` is Chat Completions, which every provider's Batch API has,
            except for what needs Responses.
        refused: The features that the endpoint refuses for the model.
        official: The endpoint is OpenAI itself.
    """
    feature = choose_api(api, question.params, refused, official=False)
    builder: Api = ResponsesApi() if feature is Feature.RESPONSES else ChatCompletions()
    request = ChatRequest(question=question, stream=False)
    body = builder.build_body(request, refused, official=official)
    body.pop("stream", None)
    path = f"/v1{builder.path}"
    line = {"custom_id": custom_id, "method": "POST", "url": path, "body": body}
    return RequestLine(question.model, path, json.dumps(line).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class ResultLine:
    """A line of an output file or an error file.

    Attributes:
        custom_id: The id of the request.
        status: The HTTP status of the response; None without one.
        body: The body of the response.
        error: The error in place of a response.
        content: The line as it came.
    """

    custom_id: str
    status: int | None
    body: Any
    error: Any
    content: bytes

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the result in a line.

        Raises:
            ValueError: The line is not a result.
        """
        try:
            value = json.loads(content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        fields = value if isinstance(value, dict) else {}
        custom_id, response = fields.get("custom_id"), fields.get("response")
        if not isinstance(custom_id, str):
            raise ValueError("no custom_id")  # noqa: TRY004 - as for what is not JSON
        response = response if isinstance(response, dict) else {}
        status = response.get("status_code")
        return cls(
            custom_id,
            status if isinstance(status, int) else None,
            response.get("body"),
            fields.get("error"),
            content,
        )

    @property
    def response_id(self) -> str | None:
        """The provider's id of the answer, if it has one."""
        name = self.body.get("id") if isinstance(self.body, dict) else None
        return name if isinstance(name, str) and name else None

    @property
    def is_executed(self) -> bool:
        """True if the provider has tried to answer the request."""
        if self.status == HTTPStatus.OK and not self.error:
            return True
        return self.status != NOT_SENT_STATUS and self._error.code not in NOT_EXECUTED

    @property
    def _error(self) -> ErrorBody:
        body = self.body if self.body and self.status != HTTPStatus.OK else None
        return parse_error(body or self.error or {})

    def read_into(self, response: ChatResponse) -> None:
        """Read the answer into a response.

        Raises:
            BrokenAnswer: The line has no usable answer.
            ErrorInAnswer: The line has an error.
        """
        if self.status != HTTPStatus.OK or not isinstance(self.body, dict):
            raise self._error_in_answer()
        body = self.body
        if isinstance(body.get("choices"), dict):  # SGLang, up to 0.4, in its files only
            body = {**body, "choices": [body["choices"]]}
        is_responses = body.get("object") == "response"
        api: Api = ResponsesApi() if is_responses else ChatCompletions()
        api.read_document(body, response)
        response.close()
        response.require_text()

    def _error_in_answer(self) -> Exception:
        error = self._error
        status = self.status if self.status not in {None, HTTPStatus.OK} else error.status
        if status is None and not error.code and not error.message:
            return BrokenAnswer("The result has neither an answer nor an error.", retryable=True)
        return ErrorInAnswer(error, status)


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    r"""Yield the lines of a file that are not blank, without their ends.

    Only `\n` ends a line: a JSON string may hold other line ends of Unicode, such as U+2028.
    """
    rest: list[bytes] = []
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if not others:
            continue
        for line in (b"".join(rest), *others[:-1]):
            if line.strip():
                yield line
        rest = [others[-1]]
    line = b"".join(rest)
    if line.strip():
        yield line

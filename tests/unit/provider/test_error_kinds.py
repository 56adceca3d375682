"""What an error is about, by the codes and sentences of endpoints."""

import pytest

from qacli.provider.error_body import ErrorBody
from qacli.provider.error_kinds import implied_status, is_retryable


@pytest.mark.parametrize(
    ("error", "status"),
    [
        # OpenAI, LiteLLM, Anthropic, DeepSeek and MiniMax
        (ErrorBody("m", "budget_exceeded"), 402),
        (ErrorBody("Your credit balance is too low to access the API."), 402),
        (ErrorBody("Insufficient Balance"), 402),
        # vLLM, llama.cpp, LM Studio, Anthropic, TGI, Cerebras
        (ErrorBody("This model's maximum context length is 4096 tokens."), 400),
        (ErrorBody("the request exceeds the available context size, try increasing it"), 400),
        (ErrorBody("Context size has been exceeded."), 400),
        (ErrorBody("Trying to keep the first 15857 tokens when context the overflows."), 400),
        (ErrorBody("prompt is too long: 205351 tokens > 200000 maximum"), 400),
        (ErrorBody("`inputs` must have less than 1024 tokens"), 400),
        (ErrorBody("Please reduce the length of the messages or completion."), 400),
        (ErrorBody("m", "data_inspection_failed"), 400),  # DashScope
        # Gemini, xAI
        (ErrorBody("API key not valid. Please pass a valid API key."), 401),
        (ErrorBody("Incorrect API key provided: xa***. You can obtain an API key."), 401),
        (ErrorBody("Overloaded."), None),
        (ErrorBody("The context of your question is unclear."), None),
        (ErrorBody("m", "503"), 503),
    ],
)
def test_implied_status_of_an_error_with_status_200(error: ErrorBody, status: int | None) -> None:
    assert implied_status(error) == status


@pytest.mark.parametrize(
    ("status", "headers", "retryable"),
    [
        *((status, {}, True) for status in (408, 409, 425, 429, 498, 500, 502, 503, 524, 529)),
        *((status, {}, False) for status in (400, 401, 404, 413, 422)),
        (500, {"x-should-retry": "false"}, False),
        (400, {"x-should-retry": "true"}, True),
        (400, {"x-should-retry": "perhaps"}, False),
    ],
)
def test_is_retryable_by_status_and_header(
    status: int, headers: dict[str, str], *, retryable: bool
) -> None:
    assert is_retryable(status, headers) == retryable

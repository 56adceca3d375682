"""The kind of an error, by the codes and messages of endpoints."""

import pytest
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

from qacli.provider.error_body import ErrorBody
from qacli.provider.error_kinds import (
    connection_reason,
    implied_status,
    is_about_part,
    is_about_place,
    is_about_system,
    is_retryable,
)
from qacli.provider.error_mapping import is_model_missing, refused_option


@pytest.mark.parametrize(
    ("error", "status"),
    [
        # OpenAI, LiteLLM, Anthropic, DeepSeek and MiniMax
        (ErrorBody("m", "budget_exceeded"), 402),
        (ErrorBody("Your credit balance is too low to access the API."), 402),
        (ErrorBody("Insufficient Balance"), 402),
        # Moonshot, DashScope and Volcengine; Zhipu; xAI; and Fireworks
        (ErrorBody("Your account is suspended.", type="exceeded_current_quota_error"), 402),
        (ErrorBody("Access denied.", "Arrearage"), 402),
        (ErrorBody("Your account has an overdue balance.", "AccountOverdueError"), 402),
        (ErrorBody("余额不足", "1113"), 402),
        (ErrorBody("Sorry, your account balance is insufficient"), 402),
        (ErrorBody("not enough balance"), 402),
        (ErrorBody("Your prepayment credits are depleted."), 402),
        (ErrorBody("Your newly created team doesn't have any credits or licenses yet."), 402),
        (ErrorBody("Your team has used all available credits."), 402),
        (ErrorBody("Account x is suspended, possibly due to its monthly spending limit."), 402),
        # vLLM, llama.cpp, LM Studio, Anthropic, TGI, Cerebras
        (ErrorBody("This model's maximum context length is 4096 tokens."), 400),
        (ErrorBody("the request exceeds the available context size, try increasing it"), 400),
        (ErrorBody("Context size has been exceeded."), 400),
        # Anthropic, Bedrock, LM Studio, Ollama, Vertex AI, Cloudflare, SambaNova, MiniMax
        (ErrorBody("input length and `max_tokens` exceed context limit: 3 + 2 > 4"), 400),
        (ErrorBody("Input Tokens Exceeded: Number of input tokens exceeds maximum length."), 400),
        (ErrorBody("The number of tokens to keep is greater than the context length."), 400),
        (ErrorBody("prompt too long; exceeded max context length by 12 tokens"), 400),
        (ErrorBody("the input token count is 40000 but model only supports up to 32768."), 400),
        (ErrorBody("maximum output tokens (9) exceeded this model context window limit (8)."), 400),
        (ErrorBody("the maximum supported sequence length is just 8192!"), 400),
        # watsonx, Volcengine, SiliconFlow, MiniMax, Z.ai, OpenRouter, rkllama, LiteLLM
        (ErrorBody("the number of input tokens 9 cannot exceed the total tokens limit 8"), 400),
        (ErrorBody("Total tokens of image and text exceed max message tokens."), 400),
        (ErrorBody("length of prompt_tokens (9) must be less than max_seq_len (8)."), 400),
        (ErrorBody("invalid params, context window exceeds limit"), 400),
        (ErrorBody("Prompt exceeds max length"), 400),
        (ErrorBody("The input exceeds the maximum allowed input length of 8 tokens."), 400),
        (ErrorBody("Prompt is 9 tokens but the model context window is 8 tokens."), 400),
        (ErrorBody("litellm.ContextWindowExceededError: m"), 400),
        (ErrorBody("token limit", "1039"), 400),
        (ErrorBody("Trying to keep the first 15857 tokens when context the overflows."), 400),
        (ErrorBody("prompt is too long: 205351 tokens > 200000 maximum"), 400),
        (ErrorBody("`inputs` must have less than 1024 tokens"), 400),
        (ErrorBody("Please reduce the length of the messages or completion."), 400),
        # vLLM, Together, xAI, Moonshot, Mistral, GitHub, Cohere, DashScope, Groq
        (ErrorBody("The prompt (length 9000) is longer than the maximum model length of 1."), 400),
        (ErrorBody("`inputs` tokens + `max_new_tokens` must be <= 4097."), 400),
        (ErrorBody("This model's maximum prompt length is 8 but the request contains 9."), 400),
        (ErrorBody("Your request exceeded model token limit: 8192"), 400),
        (ErrorBody("Prompt contains 40000 tokens and 0 draft tokens, too large."), 400),
        (ErrorBody("prompt token count of 9000 exceeds the limit of 8000"), 400),
        (ErrorBody("too many tokens: total number of tokens in the prompt cannot exceed 9"), 400),
        (ErrorBody("Range of input length should be [1, 30720]"), 400),
        (ErrorBody("Request too large: please reduce your message size and try again."), 400),
        # DashScope, Volcengine, OpenAI, OpenRouter
        (ErrorBody("m", "data_inspection_failed"), 400),
        (ErrorBody("filtered due to the prompt triggering Azure's content management policy"), 400),
        (ErrorBody("m", "SensitiveContentDetected"), 400),
        (ErrorBody("Your prompt was flagged as potentially violating our usage policy."), 400),
        (ErrorBody("m-1 requires moderation on P. Your input was flagged for x."), 400),
        (ErrorBody("You have no idea of how many credits there are."), None),
        (ErrorBody("Reach out for your monthly report."), None),
        # Gemini, xAI
        (ErrorBody("API key not valid. Please pass a valid API key."), 401),
        (ErrorBody("Incorrect API key provided: xa***. You can obtain an API key."), 401),
        *(
            (ErrorBody(message), 401)
            for message in (
                "API Key not found. Please pass a valid API key.",
                "Missing API key",
                "No API key provided.",
                "API key is required",
                "Method doesn't allow unregistered callers (callers without identity).",
                "Invalid token",
            )
        ),
        (ErrorBody("Invalid token '<' in the JSON body."), None),
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
        *((status, {}, True) for status in (424, 499)),
        *((status, {}, False) for status in (400, 401, 404, 413, 422)),
        *((status, {}, False) for status in (501, 505, 511)),
        (500, {"x-should-retry": "false"}, False),
        (400, {"x-should-retry": "true"}, True),
        (400, {"x-should-retry": "perhaps"}, False),
    ],
)
def test_is_retryable_by_status_and_header(
    status: int, headers: dict[str, str], *, retryable: bool
) -> None:
    assert is_retryable(status, ErrorBody("m"), headers) == retryable


@pytest.mark.parametrize(
    ("status", "message", "retryable"),
    [
        (429, "Rate limit reached for m on tokens per min (TPM): Limit 3, Used 2.", True),
        (429, "Too many tokens, please wait before trying again.", True),
        # OpenAI; llama.cpp; Ollama
        (
            429,
            "Request too large for m. The input or output tokens must be reduced in order to run.",
            False,
        ),
        (500, "image input is not supported - hint: you may need to provide the mmproj", False),
        (500, "model requires more system memory (5 GiB) than is available (3 GiB)", False),
        (500, "The server had an error.", True),
        # Anthropic: passes when the minute has passed
        (429, "Please reduce the prompt length, or try again later.", True),
        # OpenAI, with 400
        (400, "Our servers are currently overloaded. Please try again later.", True),
        (400, "The method get() is overloaded.", False),
    ],
)
def test_is_retryable_by_message(status: int, message: str, *, retryable: bool) -> None:
    assert is_retryable(status, ErrorBody(message), {}) == retryable


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # DeepSeek, vLLM, Ollama, llama.cpp, OpenAI, Groq, OpenRouter
        ("messages[0]: unknown variant `image_url`, expected `text` at line 1", True),
        ("facebook/opt-125m is not a multimodal model", True),
        ("this model does not support image input", True),
        ("image input is not supported - hint: you may need to provide the mmproj", True),
        ("Invalid content type. image_url is only supported by certain models.", True),
        ("'messages.0' : for 'role:user' 'messages.0.content' content must be a string", True),
        ("No endpoints found that support image input", True),
        ("The model does not support tools.", False),
        ("unknown variant `system`, expected `user`", False),
    ],
)
def test_is_about_part_by_message(message: str, *, expected: bool) -> None:
    assert is_about_part(ErrorBody(message)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # OpenAI, Gemini, OpenRouter
        ("Country, region, or territory not supported", True),
        ("User location is not supported for the API use.", True),
        ("This model is not available in your region.", True),
        ("The model m is not supported.", False),
        ("Streaming is not supported in this region's dialect", False),
    ],
)
def test_is_about_place_by_message(message: str, *, expected: bool) -> None:
    assert is_about_place(ErrorBody(message)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Developer instruction is not enabled for models/gemma-3-27b-it", True),
        ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", True),
        ("System role not supported", True),
        ("Only user, assistant and tool roles are supported, got system.", True),
        ("Only user and assistant roles are supported!", True),
        ("This model doesn't support system messages. Try again without.", True),
        ("messages[0].role: unknown variant `system`, expected `user`", True),
        ('messages: Unexpected role "system".', True),
        ("The system is not available.", False),
        ("This system does not support 'images'.", False),
    ],
)
def test_is_about_system_by_message(message: str, *, expected: bool) -> None:
    assert is_about_system(ErrorBody(message)) == expected


@pytest.mark.parametrize(
    ("error", "option"),
    [
        (ErrorBody("m", param="temperature"), "temperature"),
        (ErrorBody("gpt-5 models don't support temperature=0.2."), "temperature"),
        (ErrorBody("m", param="max_completion_tokens"), "max_tokens"),
        (ErrorBody("m", param="reasoning.effort"), "reasoning_effort"),
        (ErrorBody('"m-1" does not support thinking'), "reasoning_effort"),  # Ollama
        (ErrorBody("Model m-1 does not support parameter reasoningEffort."), "reasoning_effort"),
        (ErrorBody("top_p is not supported"), None),
        (ErrorBody("m", param="model"), None),
    ],
)
def test_refused_option_is_one_of_the_request(error: ErrorBody, option: str | None) -> None:
    params = ["model", "temperature", "max_tokens", "reasoning_effort"]
    assert refused_option(error, params) == option


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        *(
            (status, ErrorBody(message), True)
            for status, message in (
                (400, "The provided model identifier is invalid."),  # Bedrock
                (404, "Not found the model m-1 or Permission denied"),  # Moonshot
                (400, "模型不存在"),  # Zhipu
                (404, "The model 'm-1' is not deployed"),
                (404, "No model found with id m-1"),
                (400, "could not find real modelID for m-1"),  # llama-swap
                (400, "No models loaded. Please load a model."),  # LM Studio
                (410, "The model m-1 has been retired."),
                (422, "Model m-1 not found"),
                (400, "Model m-1 is not supported"),
            )
        ),
        (403, ErrorBody("Project p has no access", "model_not_found"), True),
        (400, ErrorBody("The model is not supported in streaming mode."), False),
        (400, ErrorBody("This model does not support image input."), False),
        (403, ErrorBody("The model m-1 does not exist"), False),
    ],
)
def test_is_model_missing_by_code_and_message(
    status: int, error: ErrorBody, *, expected: bool
) -> None:
    assert is_model_missing(status, error) == expected


def test_connection_reason_of_a_response_cut_off_has_no_status() -> None:
    reason = "it was closed in the middle of the response"
    for cut in (
        TransferEncodingError("Not enough data to satisfy transfer length header."),
        ContentLengthError("Not enough data to satisfy content length header."),
    ):
        with pytest.raises(ValueError, match="outer") as caught:
            raise ValueError("outer") from cut
        assert connection_reason(caught.value) == reason


def test_connection_reason_without_a_text_is_the_name_of_the_error() -> None:
    assert connection_reason(ConnectionResetError()) == "ConnectionResetError"

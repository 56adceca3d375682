"""Recognise the kind of a provider's error, where its HTTP status is not enough.

The codes, types and sentences are those of the endpoints that the comments name.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

from qacli.provider.error_body import ErrorBody

RETRYABLE_STATUS = frozenset({408, 409, 424, 425, 429, 498, 499})
"""Besides 5xx, the statuses after which the same request may succeed: 424 is of Bedrock and TGI
for a model that failed, 425 is "too early", 498 is Groq's for a flex tier without capacity, and
499 Gemini's for a request that it cancelled; the openai package retries the others."""

FINAL_STATUS = frozenset({501, 505, 511})
"""The statuses 5xx of a request that is not supported (llama.cpp, vLLM), and of a network that
asks for a login (RFC 6585)."""

OVERLOADED = frozenset(
    {
        *("overloaded_error", "server_is_overloaded", "service_unavailable_error"),
        "engine_overloaded_error",
    }
)
"""Codes and types of Anthropic, OpenAI and Moonshot, with any status."""

OVERLOADED_MESSAGE = (
    r"(?i)\b(servers?|engine|model|service) (is|are) (currently |temporarily )?overloaded"
)
"""Messages of OpenAI, with status 400 (tontinton/maki#777 on GitHub), and of others."""

FINAL_MESSAGE = (
    r"image input is not supported|Unsupported content part type|requires more system memory"
)
"""The messages of llama.cpp and Ollama with status 500 that the same request ends in again."""

CLOSED_EARLY = re.compile(r"Not enough data to satisfy|without sending complete message body")
"""The texts of aiohttp, which begins them with a status 400 that no server has sent, and of h11."""

CLOSED = "it was closed in the middle of the response"

PAYMENT = frozenset(
    {
        *("insufficient_quota", "insufficient_credits", "billing_hard_limit_reached"),
        *("billing_not_active", "billing_error", "budget_exceeded", "credit_limit"),
        *("exceeded_current_quota_error", "Arrearage", "AccountOverdueError"),
        *("AllocationQuota.FreeTierOnly", "1113"),
        *("insufficient_user_quota", "pre_consume_token_quota_failed"),
    }
)
"""Codes and types of OpenAI, OpenRouter, Anthropic, LiteLLM and Together; of Moonshot, Alibaba's
DashScope (also the next) and Volcengine; of Zhipu; of new-api."""

PAYMENT_MESSAGE = (
    r"(?i)"
    r"credit balance is too low"  # Anthropic, with status 400
    r"|insufficient (balance|credits?|funds)"  # DeepSeek, MiniMax, OpenRouter
    r"|balance is insufficient|not enough balance"  # SiliconFlow, Novita
    r"|credits (are|is) (depleted|exhausted)|run out of credits"  # Gemini, with 429; SambaNova
    r"|余额不足|欠费"  # Zhipu, with status 429: "insufficient balance", "in arrears"
    r"|额度(已用尽|不足)"  # one-api and new-api, with 403: "the quota is used up", "insufficient"
    r"|\b(have|has)\b.{0,20} any credits|used all available credits"  # xAI, with 403 and 429
    r"|monthly spending limit"  # xAI; Fireworks, with status 412
)

TOO_LONG = frozenset(
    {
        *("context_length_exceeded", "exceed_context_size_error", "request_too_large"),
        *("string_above_max_length", "model_max_prompt_tokens_exceeded", "1261", "1039"),
    }
)
"""Codes and types of OpenAI, llama.cpp, Anthropic, GitHub, Zhipu and MiniMax."""

TOO_LONG_MESSAGE = (
    r"(?i)"
    r"maximum context length|exceed(s|ed)?[^.]{0,40} context"  # vLLM, llama.cpp, Anthropic
    r"|context (length|size|window)[^.]{0,20} exceeded|context the overflows"  # LM Studio
    r"|(prompt|input) is too long|too many (input )?tokens in"  # Anthropic, Bedrock
    r"|must have less than \d+ tokens|exceeds the maximum number of tokens"  # TGI, Gemini
    r"|reduce the length of the|reduce your message size"  # Cerebras, Groq
    r"|longer than the (maximum (model|context)|model's context) length"  # vLLM, SGLang
    r"|`inputs` tokens \+|maximum prompt length|model token limit"  # Together, xAI, Moonshot
    r"|prompt (contains|token count of) \d+|total number of tokens"  # Mistral, GitHub, Cohere
    r"|range of input length|input tokens exceed"  # DashScope, Bedrock
    r"|greater than the context length|prompt too long"  # LM Studio, Ollama
    r"|token count is \d+ but|maximum supported sequence length"  # Vertex AI, SambaNova
    r"|ContextWindowExceededError"  # LiteLLM
    r"|cannot exceed the total tokens limit|exceed max message tokens"  # watsonx, Volcengine
    r"|must be less than max_seq_len|context window exceeds limit"  # SiliconFlow, MiniMax
    r"|prompt exceeds max length|exceeds the maximum allowed input length"  # Z.ai, OpenRouter
    r"|(context window|context size) is \d|exceeds the max_model_len"  # rkllama, vLLM
)

OVER_LIMIT_MESSAGE = r"[Rr]equest too large for|tokens must be reduced in order to run"
"""The message of OpenAI, with 429, for a request that is larger than the limit of a minute: it is
too large in every minute."""

FILTERED = frozenset(
    {
        *("content_filter", "content_policy_violation", "data_inspection_failed"),
        *("DataInspectionFailed", "SensitiveContentDetected", "1301", "1026", "1027"),
        *("censorship_blocked", "10013", "10014"),
    }
)
"""Codes and types of Azure and Moonshot, OpenAI, DashScope (in both APIs), Volcengine, Zhipu and
MiniMax; of StepFun and iFlytek's Spark."""

FILTERED_MESSAGE = (
    r"(?i)"
    r"flagged as potentially violating"  # OpenAI, with the code invalid_prompt
    r"|input (was )?flagged|requires moderation"  # OpenRouter, with status 403
    r"|content exists risk|violates usage guidelines"  # DeepSeek; xAI, with 403
    r"|blocked by (content|guardrail|moderation)"  # Anthropic, and gateways
    r"|prohibited_content"  # Gemini
    r"|content management policy|ContentPolicyViolationError"  # Azure, behind LiteLLM
)

SYSTEM_MESSAGE = (
    r"(?i)"
    r"(developer|system) (instruction|prompt|message|role)s? (is|are) not"  # Gemini's Gemma
    r"|role'? does not support '(system|developer)'"  # OpenAI's o1-mini
    r"|system (role|messages?) (is )?not supported"  # chat templates, by vLLM and others
    r"|only user(, | and )assistant.{0,12} roles are supported"  # Mistral's and Llama's templates
    r"|support system messages|role:? .{0,20}\bsystem\b"  # Bedrock; DeepSeek, Anthropic
)

PART_MESSAGE = (
    r"(?i)"
    r"unknown variant .?(image_url|file|input_audio)"  # DeepSeek
    r"|not a multimodal model|(multimodal|audio) (data|input) is not supported"  # vLLM, SGLang
    r"|support (for )?image|(image|vision|audio|file) inputs? (is|are) not"  # Ollama, llama.cpp
    r"|image_url is only supported|unsupported content part type"  # OpenAI, llama.cpp
    r"|content must be a string"  # Groq
)
"""Messages for an image, a sound or another file that a model does not take."""

PLACE_MESSAGE = (
    r"(?i)"
    r"\b(country|region|territory|location)\b[^.]{0,40} not (supported|available|allowed)"
    r"|not (supported|available|allowed) in your (country|region|location)"
)
"""Messages for a country that a provider does not serve: of OpenAI, Gemini and OpenRouter."""

WRONG_KEY_MESSAGE = (
    r"(?i)"
    # Gemini, with status 400
    r"api[ _-]?key\b[^.]{0,40}\b(not valid|not found|invalid|expired|incorrect|missing|required)"
    r"|\b(incorrect|invalid|expired|missing|no)\b[^.]{0,20} api[ _-]?key"  # xAI, with status 400
    r"|unregistered callers|^invalid (access |bearer )?token\W*$"  # Gemini without a key, with 403
    r"|api key was reported as leaked"  # Gemini, with 403
    r"|(bearer|security) token\b.{0,40}\b(expired|invalid)"  # Bedrock, with 403
    r"|user is not authenticated|^authorization failed"  # DeepInfra and NVIDIA, with 403
)


def needs_payment(status: int, error: ErrorBody) -> bool:
    """Return whether only a payment ends this error."""
    return (
        status == HTTPStatus.PAYMENT_REQUIRED
        or bool(PAYMENT & {error.code, error.type})
        or re.search(PAYMENT_MESSAGE, error.message) is not None
    )


def is_too_long(status: int, error: ErrorBody) -> bool:
    """Return whether the question and its context are too long for the model."""
    return (
        status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        or bool(TOO_LONG & {error.code, error.type})
        or re.search(TOO_LONG_MESSAGE, error.message) is not None
        or re.search(OVER_LIMIT_MESSAGE, error.message) is not None
    )


def is_about_key(error: ErrorBody) -> bool:
    """Return whether a refusal with another status than 401 is about the key."""
    return re.search(WRONG_KEY_MESSAGE, error.message) is not None


def is_about_part(error: ErrorBody) -> bool:
    """Return whether the model does not take an image, a sound or another file of the question."""
    return re.search(PART_MESSAGE, error.message) is not None


def is_about_place(error: ErrorBody) -> bool:
    """Return whether the provider does not serve the country of the request."""
    return re.search(PLACE_MESSAGE, error.message) is not None


def is_about_system(error: ErrorBody) -> bool:
    """Return whether the model takes no system prompt."""
    return re.search(SYSTEM_MESSAGE, error.message) is not None


def is_filtered(error: ErrorBody) -> bool:
    """Return whether the provider's content filter refused the question."""
    # Volcengine: InputTextSensitiveContentDetected.PolicyViolation and others.
    is_by_code = bool(FILTERED & {error.code, error.type}) or "SensitiveContent" in (
        error.code or ""
    )
    return is_by_code or re.search(FILTERED_MESSAGE, error.message) is not None


def implied_status(error: ErrorBody) -> int | None:
    """Return the status of an error that came with status 200; None if it is unknown."""
    if error.status is not None:
        return error.status
    if needs_payment(HTTPStatus.OK, error):
        return HTTPStatus.PAYMENT_REQUIRED
    if is_about_key(error):
        return HTTPStatus.UNAUTHORIZED
    is_final = is_too_long(HTTPStatus.OK, error) or is_filtered(error)
    return HTTPStatus.BAD_REQUEST if is_final else None


def may_pass(status: int, error: ErrorBody) -> bool:
    """Return whether an error is of an endpoint that is overloaded or fails."""
    is_final = re.search(f"{FINAL_MESSAGE}|{OVER_LIMIT_MESSAGE}", error.message) is not None
    if status in FINAL_STATUS or is_final:
        return False
    return (
        status in RETRYABLE_STATUS
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or bool(OVERLOADED & {error.code, error.type})
        or re.search(OVERLOADED_MESSAGE, error.message) is not None
    )


def is_retryable(status: int, error: ErrorBody, headers: Mapping[str, str]) -> bool:
    """Return whether the same request may succeed later.

    OpenAI states it in the header `x-should-retry`.
    """
    advice = headers.get("x-should-retry", "").lower()
    return advice == "true" if advice in {"true", "false"} else may_pass(status, error)


def connection_reason(error: BaseException) -> str:
    """Return why a connection failed: the text of the first cause, or the name of its class."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    return CLOSED if CLOSED_EARLY.search(text) else text or type(error).__name__

"""The choice of the API, and responses that require the other one."""

from __future__ import annotations

from typing import Any

import pytest

from qacli.provider.api import choose_api
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_body import ErrorBody
from qacli.provider.error_mapping import refused_option
from qacli.provider.refused_features import Feature, refused_feature, refuses_api

CHAT, RESPONSES = Feature.CHAT_COMPLETIONS, Feature.RESPONSES
SEARCH = {"tools": [{"type": "web_search"}]}
FUNCTION = {"tools": [{"type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("setting", "params", "refused", "official", "api"),
    [
        ("auto", {}, set(), True, RESPONSES),
        ("auto", {}, set(), False, CHAT),
        ("auto", {}, {RESPONSES}, True, CHAT),
        ("auto", {}, {CHAT}, False, RESPONSES),
        ("auto", {"stop": ["x"]}, set(), True, CHAT),
        ("auto", {"stop": ["x"]}, {CHAT}, True, RESPONSES),
        ("auto", FUNCTION, set(), False, CHAT),
        ("auto", SEARCH, set(), False, RESPONSES),
        ("auto", {**SEARCH, "stop": ["x"]}, {RESPONSES}, True, RESPONSES),
        ("chat", SEARCH, {CHAT}, True, CHAT),
        ("responses", {"stop": ["x"]}, {RESPONSES}, False, RESPONSES),
    ],
)
def test_choose_api_by_setting_parameters_and_endpoint(
    setting: str, params: dict[str, Any], refused: set[Feature], official: bool, api: Feature
) -> None:
    assert choose_api(setting, params, frozenset(refused), official=official) is api


@pytest.mark.parametrize(
    ("base_url", "is_openai"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.example.com/v1", False),
        ("https://fakeapi.openai.com/v1", False),
        ("http://127.0.0.1:1/v1", False),
        ("", False),
    ],
)
def test_endpoint_is_openai_by_its_host(base_url: str, is_openai: bool) -> None:
    assert Endpoint(base_url=base_url, key="", model="m").is_openai is is_openai


@pytest.mark.parametrize(
    ("status", "message", "code", "param"),
    [
        (
            404,
            "This model is only supported in v1/responses and not in v1/chat/completions.",
            None,
            "model",
        ),
        (
            404,
            (
                "This is not a chat model and thus not supported in the v1/chat/completions "
                "endpoint. Did you mean to use v1/completions?"
            ),
            None,
            "model",
        ),
        (
            400,
            (
                "Function tools with reasoning_effort are not supported for gpt-5.6-luna in "
                "/v1/chat/completions. To use function tools, use /v1/responses or set "
                "reasoning_effort to 'none'."
            ),
            None,
            "reasoning_effort",
        ),
        (
            400,
            "The chatCompletion operation does not work with the specified model, gpt-5-codex.",
            "OperationNotSupported",
            None,
        ),
        (
            400,
            'model "gpt-5.4" is not accessible via the /chat/completions endpoint',
            "unsupported_api_for_model",
            None,
        ),
        (
            400,
            (
                "Unsupported legacy protocol: /v1/chat/completions is not supported. Please use "
                "/v1/responses."
            ),
            None,
            None,
        ),
    ],
)
def test_refuses_api_of_a_model_that_needs_responses(
    status: int, message: str, code: str | None, param: str | None
) -> None:
    """The messages of OpenAI, Azure, GitHub Copilot and a gateway."""
    error = ErrorBody(message, code, "invalid_request_error", param)
    assert refuses_api(CHAT, status, error)


@pytest.mark.parametrize(
    ("status", "message", "code", "param"),
    [
        (
            400,
            "The requested model 'gpt-4o-search-preview' is not supported with the Responses API.",
            "model_not_found",
            "model",
        ),
        (400, "This model is not supported in the v1/responses endpoint.", None, "model"),
        (404, "Not Found", None, None),
        (404, "404 page not found", None, None),
        (404, "Invalid URL (POST /v1/responses)", None, None),
        (404, "a web page titled '404' instead of an API response", None, None),
        (404, "Resource not found", "404", None),
        (405, "Method Not Allowed", None, None),
        (501, "", None, None),
        (400, "Unexpected endpoint or method. (POST /v1/responses)", None, None),
    ],
)
def test_refuses_api_of_a_model_or_an_endpoint_without_responses(
    status: int, message: str, code: str | None, param: str | None
) -> None:
    assert refuses_api(RESPONSES, status, ErrorBody(message, code, None, param))


@pytest.mark.parametrize("api", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("status", "message", "code", "param"),
    [
        (404, "The model `x` does not exist or you do not have access to it.", None, None),
        (404, "model 'x' not found, try pulling it first", None, None),
        (404, "The API deployment for this resource does not exist.", "DeploymentNotFound", None),
        (401, "Incorrect API key provided.", "invalid_api_key", None),
        (429, "Rate limit reached.", "rate_limit_exceeded", None),
        (500, "The responses API is not available", None, None),
        (400, "Unknown parameter: 'seed'.", "unknown_parameter", "seed"),
        (
            400,
            (
                "Unsupported parameter: 'messages'. In the Responses API, this parameter has "
                "moved to 'input'."
            ),
            "unsupported_parameter",
            "messages",
        ),
    ],
)
def test_refuses_api_is_false_for_other_errors(
    api: Feature, status: int, message: str, code: str | None, param: str | None
) -> None:
    assert not refuses_api(api, status, ErrorBody(message, code, None, param))


BODY = {
    "stream": True,
    "include": ["web_search_call.action.sources"],
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {"format": {"type": "json_schema"}},
}


@pytest.mark.parametrize(
    ("message", "code", "param", "feature"),
    [
        (
            "Your organization must be verified to generate reasoning summaries.",
            "unsupported_value",
            "reasoning.summary",
            Feature.REASONING_SUMMARY,
        ),
        (
            "Your organization must be verified to stream this model.",
            "unsupported_value",
            "stream",
            Feature.STREAM,
        ),
        (
            "Invalid value: 'web_search_call.action.sources'. Supported values are: 'x'.",
            "invalid_value",
            "include[0]",
            Feature.INCLUDE,
        ),
        (
            "Invalid parameter: 'text.format' of type 'json_schema' is not supported with model.",
            None,
            None,
            Feature.RESPONSE_FORMAT,
        ),
        (
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
            "unsupported_parameter",
            "reasoning.effort",
            None,
        ),
    ],
)
def test_refused_feature_of_the_responses_api(
    message: str, code: str | None, param: str | None, feature: Feature | None
) -> None:
    error = ErrorBody(message, code, "invalid_request_error", param)
    assert refused_feature(400, error, BODY) is feature
    assert refused_feature(400, error, {"input": "Who?"}) is None


@pytest.mark.parametrize(
    ("param", "message", "option"),
    [
        ("temperature", "", "temperature"),
        ("reasoning.effort", "", "reasoning_effort"),
        ("text.verbosity", "", "verbosity"),
        ("tools[0].type", "", "tools"),
        ("tools", "", "tools"),
        (None, "Unsupported parameter: 'reasoning.effort' is not supported.", "reasoning_effort"),
        ("input[0].content", "top_p", None),
        (None, "The tool broke.", None),
    ],
)
def test_refused_option_of_either_api_is_named(
    param: str | None, message: str, option: str | None
) -> None:
    params = {"temperature", "reasoning_effort", "verbosity", "tools"}
    assert refused_option(ErrorBody(message, None, None, param), params) == option

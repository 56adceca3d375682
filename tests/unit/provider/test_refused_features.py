"""Refusals of endpoints, and the file that remembers them."""

from pathlib import Path
from typing import Any

import pytest

from qacli.provider.error_body import ErrorBody, parse_error
from qacli.provider.refused_features import Feature, RefusedFeatures, refused_feature

BODY = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "response_format": {"type": "json_schema"},
    "temperature": 0.2,
}
MAX_TOKENS = "Unsupported parameter: 'max_tokens' is not supported with this model."
EXTRA = {
    "type": "extra_forbidden",
    "loc": ["body", "stream_options"],
    "msg": "Extra inputs are not permitted",
}


def error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "feature"),
    [
        (400, error(MAX_TOKENS, "max_tokens", "unsupported_parameter"), Feature.MAX_TOKENS),
        (
            400,
            error("You must be verified to stream this model.", "stream", "unsupported_value"),
            Feature.STREAM,
        ),
        (422, {"detail": [EXTRA]}, Feature.STREAM_OPTIONS),
        (
            400,
            error("Unrecognized request argument supplied: stream_options"),
            Feature.STREAM_OPTIONS,
        ),
        (400, error("This response_format type is unavailable now"), Feature.RESPONSE_FORMAT),
        (400, error("unknown field", "response_format.json_schema"), Feature.RESPONSE_FORMAT),
        (501, "stream: not implemented", Feature.STREAM),
        (400, error("The model is unsupported for streaming."), Feature.STREAM),  # Bedrock
        (
            400,
            error("This model does not support response format `json_schema`."),  # Groq
            Feature.RESPONSE_FORMAT,
        ),
        (422, {"object": "error", "message": {"detail": [EXTRA]}}, Feature.STREAM_OPTIONS),
        # A switch that must be off, FastAPI; NestJS; LiteLLM; a gateway in front of Azure
        (400, error("stream must be false"), Feature.STREAM),
        (
            422,
            {"detail": [{"loc": ["body", "stream"], "msg": "Input should be 0"}]},
            Feature.STREAM,
        ),
        (
            400,
            {"message": ["property stream_options should not exist"], "error": "Bad Request"},
            Feature.STREAM_OPTIONS,
        ),
        (
            400,
            error("b does not support parameters: ['stream_options'], for model=m-1.", "None"),
            Feature.STREAM_OPTIONS,
        ),
        (
            400,
            error("this model is not supported MaxTokens, please use MaxCompletionTokens"),
            Feature.MAX_TOKENS,
        ),
        # qa itself adds stream_options, so any error about it counts
        (400, error("Invalid keys: stream_options"), Feature.STREAM_OPTIONS),
        (
            400,
            error("Field 'stream_options' is invalid for this model"),
            Feature.STREAM_OPTIONS,
        ),
        (400, error("参数 stream 不支持"), Feature.STREAM),
        (400, error("This model cannot be used with streaming."), Feature.STREAM),
        (
            400,
            error("max_tokens is deprecated; use max_completion_tokens instead"),
            Feature.MAX_TOKENS,
        ),
        # The type of response_format: Groq, LM Studio, FastAPI; others name the feature
        (
            400,
            error("'response_format.type' : value is not one of the allowed values ['text']"),
            Feature.RESPONSE_FORMAT,
        ),
        (
            400,
            {"error": "'response_format.type' must be 'json_schema' or 'text'"},
            Feature.RESPONSE_FORMAT,
        ),
        (
            422,
            {
                "detail": [
                    {"loc": ["body", "response_format", "type"], "msg": "Input should be 'a'"}
                ]
            },
            Feature.RESPONSE_FORMAT,
        ),
        (400, error("Structured outputs are not supported."), Feature.RESPONSE_FORMAT),
        (400, error("This model does not support json_schema."), Feature.RESPONSE_FORMAT),
        (400, error("json_schema: the keyword 'pattern' is not supported"), None),
        # A value is wrong, not the name; or it is an option of the user; or another status.
        (400, error("max_tokens is too large: 200000.", "max_tokens", "invalid_value"), None),
        (400, error("Invalid schema for response_format 'x'", "response_format"), None),
        (
            400,
            error("'temperature' does not support 0.2", "temperature", "unsupported_value"),
            None,
        ),
        (400, error("Unsupported parameter: max_completion_tokens"), None),
        (401, error("unsupported stream"), None),
        (400, "", None),
    ],
)
def test_refused_feature_of_a_response_is_found(
    status: int, body: object, feature: Feature | None
) -> None:
    assert refused_feature(status, parse_error(body), BODY) == feature


@pytest.mark.parametrize(
    "message",
    [
        "This model only support stream mode, please enable the stream parameter.",
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "Streaming is required for operations that may take longer than 10 minutes.",
        "Please set stream=true",
    ],
)
def test_refused_feature_of_a_model_that_only_streams_is_whole(message: str) -> None:
    refusal = parse_error(error(message))
    assert refused_feature(400, refusal, {"stream": False}) == Feature.WHOLE
    assert refused_feature(400, refusal, {}) is None


def test_refused_feature_not_sent_is_none() -> None:
    refusal = ErrorBody("unsupported parameter", param="stream")
    assert refused_feature(400, refusal, {"stream": False}) is None


def test_refused_features_other_processes_see_and_add(tmp_path: Path) -> None:
    first, second = RefusedFeatures(tmp_path / "new"), RefusedFeatures(tmp_path / "new")
    assert second.get("u", "m") == set()
    first.add("u", "m", frozenset({Feature.STREAM}))
    second.add("u", "m", frozenset({Feature.MAX_TOKENS}))
    third = RefusedFeatures(tmp_path / "new")
    assert third.get("u", "m") == {Feature.STREAM, Feature.MAX_TOKENS}
    assert third.get("u", "other") == third.get("other", "m") == set()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"u": 1}', '{"u": {"m": ["future"]}}', "\xff"])
def test_refused_features_damaged_file_is_no_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "endpoints.json").write_text(content, encoding="latin-1")
    features = RefusedFeatures(tmp_path)
    assert features.get("u", "m") == set()
    features.add("u", "m", frozenset({Feature.STREAM}))
    assert features.get("u", "m") == {Feature.STREAM}


def test_refused_features_unwritable_directory_uses_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    features = RefusedFeatures(tmp_path / "file" / "below")
    features.add("u", "m", frozenset({Feature.STREAM}))
    assert features.get("u", "m") == {Feature.STREAM}

"""Errors in the forms in which endpoints write them."""

import pytest

from qacli.provider.error_body import ErrorBody, parse_error

DEEP: dict[str, object] = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
            ErrorBody("m", "c", "t", "p"),
        ),
        (
            [{"error": {"code": 400, "message": "API key not valid."}}],
            ErrorBody("API key not valid.", "400"),
        ),
        ({"error": "m"}, ErrorBody("m")),
        ({"error": "Not Found", "message": "no such model"}, ErrorBody("no such model")),
        ({"error": {"message": "m", "metadata": {"raw": "why"}}}, ErrorBody("m: why")),
        ({"detail": "m"}, ErrorBody("m")),
        ({"error": {"detail": "m"}}, ErrorBody("m")),
        (
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream"], "msg": "m"}]},
            ErrorBody("stream: m", "extra_forbidden", None, "stream"),
        ),
        ({"detail": []}, ErrorBody("[]")),
        ({"message": "m", "code": 429}, ErrorBody("m", "429")),
        ({"object": "error", "message": "m", "type": "t"}, ErrorBody("m", None, "t")),
        ({"errors": [{"message": "m"}]}, ErrorBody("m")),
        ({"error": {"code": 500}}, ErrorBody('{"code": 500}', "500")),
        # NestJS: a list of messages; others: a flag beside the message
        (
            {"statusCode": 400, "message": ["m", "n"], "error": "Bad Request"},
            ErrorBody("m; n"),
        ),
        ({"error": True, "message": "m"}, ErrorBody("m")),
        ({"error": "e", "detail": "m", "code": "c"}, ErrorBody("m", "c")),
        # LiteLLM: the text None for no value
        (
            {
                "error": {
                    "message": "m",
                    "code": 429,
                    "metadata": {
                        "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}
                    },
                }
            },
            ErrorBody("m", "429", retry_after=9),
        ),
        ({"error": "m", "estimated_time": 20.5}, ErrorBody("m", retry_after=20.5)),
        ({"error_type": "t", "error_message": "m"}, ErrorBody("m", type="t")),
        (
            {"error": {"message": "m", "type": "None", "param": "None", "code": "400"}},
            ErrorBody("m", "400"),
        ),
        # Gateways: an error as it would come in a stream
        (
            'event: error\ndata: {"error": {"message": "m", "code": 429}}\n\ndata: [DONE]\n\n',
            ErrorBody("m", "429"),
        ),
        (': hello\n\ndata: {"error": "m"}\n\n', ErrorBody("m")),
        ("data: m", ErrorBody("m")),
        (
            '<?xml version="1.0"?><Error><Code>x</Code><Message>No access</Message></Error>',
            ErrorBody("a web page titled 'No access' instead of an API response"),
        ),
        # Mistral, in both of its forms
        (
            {"object": "error", "message": {"detail": [{"loc": ["body", "stop"], "msg": "m"}]}},
            ErrorBody("stop: m", param="stop"),
        ),
        (
            {"message": '{"detail": [{"loc": ["body", "stop"], "msg": "m"}]}', "code": "1000"},
            ErrorBody("stop: m", "1000", None, "stop"),
        ),
        # Gemini: an error in the message of an error, and when to ask again
        (
            {"error": {"message": '{\n"error": {"code": 429, "message": "m"}}\n', "code": 429}},
            ErrorBody("m", "429"),
        ),
        (
            {
                "error": {
                    "code": 429,
                    "message": "m",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {"@type": "type.googleapis.com/google.rpc.Help"},
                        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"},
                    ],
                }
            },
            ErrorBody("m", "429", "RESOURCE_EXHAUSTED", retry_after=31),
        ),
        # OpenRouter, LiteLLM: what the endpoint behind them says
        ({"error": {"message": "m", "metadata": {"raw": {"error": "why"}}}}, ErrorBody("m: why")),
        (
            {"error": {"message": "m", "metadata": {"raw": '{"error": {"message": "why"}}'}}},
            ErrorBody("m: why"),
        ),
        (
            {"error": {"message": """OpenAIException - b'{"error": {"message": "why"}}'"""}},
            ErrorBody("OpenAIException: why"),
        ),
        ({"error": '{"error": {"message": "m", "code": "c"}}'}, ErrorBody("m", "c")),
        # xAI, TGI, DeepInfra, NVIDIA, AWS, Databricks, Baidu, Apigee, MiniMax, Cloudflare
        ({"code": "c", "error": "m"}, ErrorBody("m", "c")),
        ({"error": "m", "error_type": "validation"}, ErrorBody("m", None, "validation")),
        ({"detail": {"error": "m"}}, ErrorBody("m")),
        ({"detail": {"error_msg": "m"}}, ErrorBody("m")),
        ({"status": 404, "title": "Not Found", "detail": "m"}, ErrorBody("m")),
        ({"Message": "m"}, ErrorBody("m")),
        ({"error_code": "c", "message": "m"}, ErrorBody("m", "c")),
        ({"error_code": 336, "error_msg": "m"}, ErrorBody("m", "336")),
        ({"fault": {"faultstring": "m", "detail": {"errorcode": "c"}}}, ErrorBody("m")),
        ({"base_resp": {"status_code": 1008, "status_msg": "m"}}, ErrorBody("m", "1008")),
        ({"success": False, "errors": [{"code": 5007, "message": "m"}]}, ErrorBody("m", "5007")),
        ({"errors": ["a", "b"]}, ErrorBody("a; b")),
        ({"error": {"message": ["a", "b"]}}, ErrorBody("a; b")),
        ({"errors": {"model": ["is unknown"]}}, ErrorBody('{"model": ["is unknown"]}')),
        ({"message": "expected { or ["}, ErrorBody("expected { or [")),
        ({"message": 'unknown field {"x": 1}'}, ErrorBody('unknown field {"x": 1}')),
        ("upstream connect error", ErrorBody("upstream connect error")),
        (
            "<!-- x --><html><title>\n Bad &amp;\n Gateway</title>",
            ErrorBody("a web page titled 'Bad & Gateway' instead of an API response", is_page=True),
        ),
        (
            "<center><h1>413",
            ErrorBody("a web page instead of an API response", is_page=True),
        ),
        (
            "<!DOCTYPE html><title> 502 </title>",
            ErrorBody("a web page titled '502' instead of an API response", is_page=True),
        ),
        ([], ErrorBody("")),
        (None, ErrorBody("")),
        (7, ErrorBody("")),
    ],
)
def test_parse_error_known_form_gives_its_fields(body: object, expected: ErrorBody) -> None:
    assert parse_error(body) == expected


def test_parse_error_deep_nesting_gives_a_message() -> None:
    assert "nested too deeply" in parse_error({"error": DEEP}).message
    assert parse_error({"message": "[" * 100_000}).message
    wrapped: object = "m"
    for _ in range(1000):
        wrapped = {"error": wrapped}
    assert parse_error(wrapped).message


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("429", None, 429),
        ("502", None, 502),
        ("200", None, None),
        ("x", None, None),
        (None, None, None),
        (None, "overloaded_error", 529),
        ("context_length_exceeded", "invalid_request_error", 400),
        ("rate_limit_exceeded", None, 429),
    ],
)
def test_error_body_status_is_that_of_its_code_or_type(
    code: str | None, kind: str | None, status: int | None
) -> None:
    assert ErrorBody("m", code, kind).status == status

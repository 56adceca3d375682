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
        ({"error": {"code": 500}}, ErrorBody("{'code': 500}", "500")),
        ("upstream connect error", ErrorBody("upstream connect error")),
        (
            "<!DOCTYPE html><title> 502 </title>",
            ErrorBody("a web page titled '502' instead of an API response"),
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


@pytest.mark.parametrize(
    ("code", "status"), [("429", 429), ("502", 502), ("200", None), ("x", None), (None, None)]
)
def test_error_body_status_is_a_code_of_http(code: str | None, status: int | None) -> None:
    assert ErrorBody("m", code).status == status

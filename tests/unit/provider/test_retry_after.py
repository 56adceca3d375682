"""The time of the next attempt, by the headers of endpoints."""

import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from qacli.provider.retry_after import retry_after, wait_in_text

LEFT = {"x-ratelimit-remaining": "0"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "2s"}, 2),
        ({"retry-after": "-5"}, 0),
        ({"retry-after-ms": "1300", "retry-after": "9"}, 1.3),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        *(
            ({"retry-after": text}, None)
            for text in ("", "soon", "nan", "inf", "1e999", "7 s", "s")
        ),
        ({}, None),
        # OpenAI and Groq: only the limit that is used up, the later of two
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0.5s"}, 360.5),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2.5",
            },
            2.5,
        ),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "3"}, 3),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "3", "retry-after": "1"}, 1),
        ({"x-ratelimit-reset": "60"}, None),
        ({**LEFT, "x-ratelimit-reset": "1000000000.5"}, 0),  # in the past
    ],
)
def test_retry_after_of_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # OpenAI and Groq, Azure, Gemini, Moonshot, GitHub Models
        ("Rate limit reached for m. Please try again in 11.054s. Visit https://e.org.", 11.054),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 1m4.5s. Need more tokens?", 64.5),
        ("Please try again in 7m12s", 432),
        ("Please retry after 26 seconds.", 26),
        ("Please retry in 31.5s.", 31.5),
        ("please try again after 1 seconds", 1),
        ("Please wait 51000 seconds before retrying.", 51000),
        ("Try again in 1 hour and 2 minutes.", 3720),
        ("Retry after 250 milliseconds", 0.25),
        ("Please try again later.", None),
        ("Wait for 3 models, then try again in a moment.", None),
        ("try again in 3 months", None),
        ("Limit 30000, Requested 31538.", None),
        ("", None),
    ],
)
def test_wait_in_text_of_messages(text: str, seconds: float | None) -> None:
    assert wait_in_text(text) == seconds


@pytest.mark.parametrize("form", ["http", "iso", "seconds", "milliseconds"])
def test_retry_after_of_a_time_is_from_now(form: str) -> None:
    then = time.time() + 3600
    text = {
        "http": formatdate(then, usegmt=True),
        "iso": datetime.fromtimestamp(then, UTC).isoformat(),
        "seconds": str(then),
        "milliseconds": str(int(then * 1000)),
    }[form]
    for headers in ({"retry-after": text}, {**LEFT, "x-ratelimit-reset": text}):
        seconds = retry_after(headers)
        assert seconds is not None
        assert 3000 < seconds <= 3600

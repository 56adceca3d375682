"""Read the time after which to send a request again from the headers of a response."""

import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

LIMITS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)
"""The headers of the rest of a limit, and of the time when it is reset: of OpenAI and Groq, of
OpenRouter and GitHub, of IETF's draft (draft-ietf-httpapi-ratelimit-headers-06), of Anthropic."""

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)"
SPOKEN_DURATION = (
    r"(\d{1,9}(?:\.\d{1,9})?) ?"
    r"(ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hours?|d|days?)(?![a-z])"
)
WAIT = rf"(?i)\b(?:try again|retry|wait)(?: in| after| for)? ((?:{SPOKEN_DURATION}(?: and)? ?)+)"
"""The time in messages of OpenAI and Groq ("try again in 1m2.5s"), Azure ("retry after 26 seconds")
and GitHub Models ("wait 51000 seconds"): an error in a stream has no headers."""

EARLIEST_TIMESTAMP = 1e9
"""A greater number is no duration but a time, in seconds since 1970."""

EARLIEST_IN_MS = 1e11
"""A greater number is a time in milliseconds."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds; None if there are none.

    Args:
        headers: The headers: OpenAI's `retry-after-ms`, Retry-After (RFC 9110, either form), or
            the reset of a limit of which nothing is left.
    """
    milliseconds = parse_seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    delay = parse_seconds(headers.get("retry-after"))
    if delay is not None:
        return delay
    resets = [
        parse_seconds(headers.get(reset))
        for remaining, reset in LIMITS
        if headers.get(remaining, "").strip() == "0"
    ]
    return max((value for value in resets if value is not None), default=None)


def wait_in_text(text: str) -> float | None:
    """Return the seconds in a sentence such as "Please try again in 1m2.5s."; None without one."""
    wait = re.search(WAIT, text)
    if wait is None:
        return None
    parts = re.findall(SPOKEN_DURATION, wait[1].lower())
    return sum(
        float(value) * UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]]
        for value, unit in parts
    )


def parse_seconds(value: object) -> float | None:
    """Return the seconds from now of a number, a duration such as `6m0.5s`, or a date."""
    text = "" if value is None else str(value)
    with suppress(ValueError):
        number = float(text)
        if not math.isfinite(number):
            return None
        if number > EARLIEST_TIMESTAMP:
            number = number / (1000 if number > EARLIEST_IN_MS else 1) - time.time()
        return max(number, 0.0)
    if re.fullmatch(f"({DURATION})+", text):
        return sum(float(value) * UNITS[unit] for value, unit in re.findall(DURATION, text))
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError):
            return max(parse(text).timestamp() - time.time(), 0.0)
    return None

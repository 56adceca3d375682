"""Moments as people write and read them."""

import re
from datetime import datetime, timedelta

from qacli.errors import InvalidRequest

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MINUTE, HOUR, DAY = 60, 3600, 86400


def parse_when(text: str, now: datetime) -> datetime:
    """The moment that a person means: `45m`, `3h`, `2d` or `1w` ago, or a date, or date and time.

    Args:
        text: What the person wrote; without a zone it is local time.
        now: The current time, aware.

    Raises:
        InvalidRequest: It is none of these.
    """
    try:
        if found := re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip()):
            return now - timedelta(**{UNITS[found[2]]: int(found[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{text!r} is no moment.", "Write it like 2d, 3h, 2026-11-01 or 2026-11-01T12:30."
        ) from None


def format_age(when: datetime, now: datetime) -> str:
    """How long ago, in as few words as a list has room for; a date where it is long."""
    seconds = (now - when).total_seconds()
    if seconds < MINUTE:
        return "just now"
    for limit, unit, name in ((HOUR, MINUTE, "min"), (DAY, HOUR, "h"), (7 * DAY, DAY, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{when.astimezone():%Y-%m-%d}"

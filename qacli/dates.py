"""Parse and format dates and ages for people."""

import re
from datetime import datetime, timedelta

from qacli.errors import InvalidRequest

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MINUTE, HOUR, DAY = 60, 3600, 86400


def parse_when(text: str, now: datetime) -> datetime:
    """Parse an age (`45m`, `3h`, `2d`, `1w`), a date, or a date and time (ISO 8601).

    Args:
        text: The date or age; without a time zone it is local time.
        now: The current time, with a time zone.

    Raises:
        InvalidRequest: The text has another form, or the date is out of range.
    """
    try:
        if match := re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip()):
            return now - timedelta(**{UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"Cannot parse {text!r} as a date or age.",
            "Examples: 2d, 3h, 2026-11-01, 2026-11-01T12:30.",
        ) from None


def iso_duration(duration: timedelta) -> str:
    """Return a duration as ISO 8601 has it, such as `P1DT2H0M0S`, with `-` if it is negative."""
    sign, duration = ("-", -duration) if duration < timedelta() else ("", duration)
    hours, rest = divmod(duration - timedelta(days=duration.days), timedelta(hours=1))
    minutes, seconds = divmod(rest, timedelta(minutes=1))
    fraction = f".{seconds.microseconds:06}".rstrip("0").rstrip(".")
    return f"{sign}P{duration.days}DT{hours}H{minutes}M{seconds.seconds}{fraction}S"


def format_age(when: datetime, now: datetime) -> str:
    """Return the age in short form, such as `5 min ago`; from a week on, the local date."""
    seconds = (now - when).total_seconds()
    if seconds < MINUTE:
        return "just now"
    for limit, unit, name in ((HOUR, MINUTE, "min"), (DAY, HOUR, "h"), (7 * DAY, DAY, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{when.astimezone():%Y-%m-%d}"

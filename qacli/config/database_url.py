"""A database's URL: which ones qa can use, and how one is shown without its password."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

IN_MEMORY = (":memory:", "file:")
MASK = "***"
MIN_SECRET_LENGTH = 4
POSTGRES = frozenset({"postgres", "postgresql", "postgresql+psycopg2"})


def with_driver(url: str) -> str | None:
    """The URL as SQLAlchemy wants it; None where it is neither PostgreSQL nor a SQLite file."""
    scheme, _, rest = url.partition("://")
    if scheme in POSTGRES and _is_readable(rest):
        return f"postgresql+psycopg2://{rest}"
    # Three slashes and a name: history in memory would be lost with the process.
    file = rest.partition("?")[0].strip("/")
    if scheme == "sqlite" and rest.startswith("/") and file and not file.startswith(IN_MEMORY):
        return f"sqlite://{rest}"
    return None


def with_whole_path(url: str, directory: Path | None) -> str | None:
    """Return the URL with the whole path of a SQLite file; any other URL as it is.

    Args:
        url: The database as it is configured.
        directory: What a relative path is relative to; where it is None, the result is None.
    """
    file = url.removeprefix("sqlite:///")
    if file == url or not file or file.startswith(("/", *IN_MEMORY)):
        return url
    return None if directory is None else f"sqlite:///{directory.absolute() / file}"


def passwords_in(url: str) -> set[str]:
    """The password, in every spelling in which it may show up."""
    try:
        parts = urlsplit(url)
        found = [parts.password, *parse_qs(parts.query).get("password", [])]
    except ValueError:
        found = []
    return {
        spelling for text in found if text for spelling in (text, unquote(text), quote(text, ""))
    }


def hide_password(text: str, secrets: Iterable[str]) -> str:
    """The text without these, wherever they stand in it; the shortest stand in any word."""
    # The longest first: one may be a part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = text.replace(secret, MASK)
    return text


def without_password(url: str) -> str:
    """The URL as it may be shown: its password is replaced."""
    parts = urlsplit(url)
    if parts.password is None and "password=" not in parts.query:
        return url
    query = re.sub(r"(^|&)password=[^&]*", r"\1password=***", parts.query)
    netloc = parts.netloc
    if parts.password is not None:
        user = f"{parts.username}:***@" if parts.username else "***@"
        netloc = user + netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def _is_readable(rest: str) -> bool:
    """Whether what follows the scheme can be taken apart; a slash in a password hides it."""
    try:
        parts = urlsplit(f"//{rest}")
        return bool(rest) and "#" not in rest and (parts.port or 1) > 0
    except ValueError:
        return False

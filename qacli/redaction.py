"""Hide secrets in texts, URLs and headers that are shown, logged or stored."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit, urlunsplit

MASK = "***"

MIN_SECRET_LENGTH = 4
"""Shorter secrets are not masked: they are part of ordinary words."""

MIN_KEY_LENGTH = 8
"""Shorter keys are not masked: they are placeholders such as `none` or `ollama`."""

KEY_SHAPE = re.compile(r"\b(sk|pk|key)-[A-Za-z0-9_*-]{6,}")
"""The shape of a provider's key, for keys that are not in the settings."""

SECRET_HEADER = re.compile(r"authorization|cookie|key|token|secret", re.IGNORECASE)
"""Names of headers whose values are masked."""


def hide_secrets(
    text: str, secrets: Iterable[str | None], *, min_length: int = MIN_SECRET_LENGTH
) -> str:
    """Replace every occurrence of each secret in the text.

    Args:
        text: Any text.
        secrets: The secrets; None and those shorter than `min_length` are ignored.
        min_length: In characters.
    """
    # The longest first: one may be a part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if len(secret) >= min_length:
            text = text.replace(secret, MASK)
    return text


def without_placeholder(key: str | None) -> str:
    """Return a provider's key if it is a secret; empty if it is only a placeholder."""
    return key if key and len(key) >= MIN_KEY_LENGTH else ""


def hide_key_shapes(text: str) -> str:
    """Replace everything in the text that has the shape of a provider's key."""
    return KEY_SHAPE.sub(MASK, text)


def hide_header(name: str, value: str) -> str:
    """Return a header's value, masked if the header is secret; a scheme (`Bearer`) is kept."""
    if not SECRET_HEADER.search(name):
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space and "authorization" in name.lower() else MASK


def passwords_in(url: str) -> set[str]:
    """Return the passwords in a database's URL, each also with %-escapes added and removed."""
    try:
        parts = urlsplit(url)
        passwords = [parts.password, *parse_qs(parts.query).get("password", [])]
    except ValueError:
        return set()
    return {
        spelling
        for password in passwords
        if password
        for spelling in (password, unquote(password), quote(password, ""))
    }


def without_password(url: str) -> str:
    """Return a database's URL with its password masked.

    Raises:
        ValueError: The URL cannot be parsed.
    """
    parts = urlsplit(url)
    if parts.password is None and "password=" not in parts.query:
        return url
    query = re.sub(r"(^|&)password=[^&]*", rf"\1password={MASK}", parts.query)
    netloc = parts.netloc
    if parts.password is not None:
        user = f"{parts.username}:{MASK}@" if parts.username else f"{MASK}@"
        netloc = user + netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def redact_url(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def mask_url(url: str) -> str:
    """Return a URL with user, password and the values of its query masked."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    query = "&".join(f"{name}={MASK}" for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    netloc = f"{MASK}@{host}" if at else host
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))

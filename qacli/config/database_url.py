"""The URLs of databases that qa supports: PostgreSQL, and SQLite files."""

from pathlib import Path
from urllib.parse import quote, urlsplit

from qacli.redaction import without_password

IN_MEMORY = (":memory:", "file:")
RESERVED = "/?#[]@"
"""The characters that a password in a URL may not have (RFC 3986, section 3.2.1)."""

POSTGRES = frozenset({"postgres", "postgresql", "postgresql+psycopg2"})


def with_driver(url: str) -> str | None:
    """Return the URL as SQLAlchemy needs it; None if it is not PostgreSQL or a SQLite file."""
    scheme, _, rest = url.partition("://")
    if scheme in POSTGRES and _is_valid(rest):
        return f"postgresql+psycopg2://{rest}"
    # Three slashes and a name: a history in memory would be lost when the process ends.
    file = rest.partition("?")[0].strip("/")
    if scheme == "sqlite" and rest.startswith("/") and file and not file.startswith(IN_MEMORY):
        return f"sqlite://{rest}"
    return None


def with_absolute_path(url: str, directory: Path | None) -> str | None:
    """Return the URL with the absolute path of a SQLite file; any other URL is unchanged.

    Args:
        url: The database as it is configured.
        directory: The base of a relative path; if it is None, the result for one is None.
    """
    file = url.removeprefix("sqlite:///")
    if file == url or not file or file.startswith(("/", *IN_MEMORY)):
        return url
    return None if directory is None else f"sqlite:///{directory.absolute() / file}"


def _is_valid(rest: str) -> bool:
    """Return whether the part after the scheme can be parsed; an unescaped slash prevents that."""
    try:
        parts = urlsplit(f"//{rest}")
        return bool(rest) and "#" not in rest and (parts.port or 1) > 0
    except ValueError:
        return False


def advice(url: str) -> str:
    """Return what to change in a URL that cannot be used, without any part of its password."""
    scheme, _, rest = url.partition("://")
    _, colon, password = rest.rpartition("@")[0].partition(":")
    if scheme in POSTGRES and colon:
        for character in password:
            if character in RESERVED:
                return (
                    f"In its password, write {character} as {quote(character, safe='')}: "
                    "postgresql://user:password@host/name"
                )
    return (
        "Use postgresql://user:password@host/name (a slash in the password is %2F) or "
        "sqlite:///path/to/file.db."
    )


def outbox_directory(url: str, data_path: Path) -> Path:
    """Return the directory of a database's outbox: each database has its own.

    Args:
        url: The database, as `with_driver` returns it.
        data_path: The data directory, for the outbox of a PostgreSQL database.
    """
    from hashlib import sha256

    if url.startswith("sqlite:///"):
        file = Path(url.removeprefix("sqlite:///").partition("?")[0])
        return file.with_name(file.name + ".outbox")
    parts = urlsplit(without_password(url))
    name = f"{parts.hostname}:{parts.port or 5432}{parts.path}?{parts.query}"
    return data_path / "outbox" / sha256(name.encode()).hexdigest()[:16]

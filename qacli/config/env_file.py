"""The `.env` file of a directory, and the records of the `.env` files that the user trusts.

A `.env` file can come with a cloned project, and it can set the endpoint that questions are sent
to. So it is ignored until `qa config trust`. As in direnv, trust is given to a path and a content:
a file that has changed must be trusted again. The records are in the platform's data directory
for qa, one file for each `.env`, readable only by their owner. No setting moves them, because a
setting could come from the untrusted file.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from qacli.config.file import CORRECT
from qacli.errors import NotConfigured
from qacli.private_files import make_private_directory, write_private

MAX_FILE_BYTES = 1024 * 1024
"""A larger `.env` file is never trusted."""

MAX_NAMES = 3
"""Variables that the notice of an ignored file lists; the rest are only counted."""


class Trust(StrEnum):
    """The user's decision on a `.env` file."""

    UNKNOWN = "unknown"
    TRUSTED = "trusted"
    CHANGED = "changed"
    REFUSED = "refused"
    MISSING = "missing"


class EnvFile(NamedTuple):
    """A `.env` file, read once, so that its digest and its values are of the same bytes.

    Attributes:
        path: The path as the caller gave it, for messages.
        data: The content; None if it cannot be read or is larger than `MAX_FILE_BYTES`.
        problem: The reason why it cannot be read; empty if it was read.
    """

    path: Path
    data: bytes | None
    problem: str = ""

    @classmethod
    def read(cls, path: Path) -> "EnvFile | None":
        """Read the file; return None if it does not exist."""
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return cls(path, None, f"{error.strerror}")
        if len(data) > MAX_FILE_BYTES:
            return cls(path, None, f"it is larger than {MAX_FILE_BYTES} bytes")
        return cls(path, data)

    @property
    def location(self) -> Path:
        """The absolute path that trust belongs to, with links in the directory resolved.

        The last part is not resolved: a link to a trusted file is another file.
        """
        return absolute(self.path)

    @property
    def digest(self) -> str:
        """The SHA-256 of the content in hexadecimal; empty if it cannot be read."""
        return "" if self.data is None else _sha256(self.data)

    def values(self) -> Mapping[str, str | None]:
        """Return the variables in the file; references in the values are not expanded.

        Raises:
            NotConfigured: The file cannot be read, or is not UTF-8.
        """
        from dotenv import dotenv_values

        return dotenv_values(stream=self._stream(), interpolate=False)

    def line(self, name: str) -> int | None:
        """Return the line of the last assignment to the variable; None if there is none."""
        from dotenv.parser import parse_stream

        lines = [item.original.line for item in parse_stream(self._stream()) if item.key == name]
        return lines[-1] if lines else None

    def names_in(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names for which a line of the file seems to have a value.

        This searches for lines, in time linear in the file's size, and does not use the parser,
        because the file is not trusted.
        """
        if self.data is None:
            return ()
        choices = b"|".join(re.escape(name.encode()) for name in names)
        pattern = rb"(?m)^[ \t]*(?:export[ \t]+)?'?(" + choices + rb")'?[ \t]*=[ \t]*([^\s#]\S?)"
        matches = re.findall(pattern, self.data)
        with_value = [name.decode() for name, value in matches if value not in {b'""', b"''"}]
        return tuple(dict.fromkeys(with_value))

    def _stream(self) -> StringIO:
        if self.data is None:
            raise NotConfigured(f"The file {self.path} cannot be read: {self.problem}.", CORRECT)
        try:
            return StringIO(self.data.decode("utf-8-sig"), newline=None)
        except UnicodeDecodeError as error:
            raise NotConfigured(f"The file {self.path} cannot be read: {error}.", CORRECT) from None


class TrustRecord(NamedTuple):
    """A decision of the user: this path, with this content, is trusted or refused."""

    path: Path
    digest: str
    trusted: bool

    def state(self, file: EnvFile | None) -> Trust:
        """Return the decision for the file as it is now; None means a file that does not exist."""
        if file is None:
            return Trust.MISSING
        if self.digest != file.digest or file.data is None:
            return Trust.CHANGED if self.trusted else Trust.UNKNOWN
        return Trust.TRUSTED if self.trusted else Trust.REFUSED


class IgnoredEnvFile(NamedTuple):
    """A `.env` file in the working directory that is ignored because it is not trusted.

    Attributes:
        path: Its absolute path.
        names: The variables of settings that it sets and the environment does not.
        trust: The state of the user's decision.
    """

    path: Path
    names: tuple[str, ...]
    trust: Trust

    @property
    def reason(self) -> str:
        """The reason why the file is ignored, to follow "because"."""
        if self.trust is Trust.CHANGED:
            return "it has changed since it was trusted"
        return "it is not trusted"

    @property
    def notice(self) -> str:
        """One line: the file is ignored, why, and how to trust it."""
        names = list(self.names[:MAX_NAMES])
        if len(self.names) > MAX_NAMES:
            names.append(f"{len(self.names) - MAX_NAMES} more")
        sets = f" It sets {_join(names)}." if names else ""
        return (
            f"{self.path} is ignored: {self.reason}.{sets} To see it and trust it: qa config trust"
        )

    def advice(self, *names: str) -> str:
        """Return advice for an error that one of these variables would prevent.

        It is empty if the file sets none of them; otherwise it ends with a space.
        """
        present = [name for name in names if name in self.names]
        if not present:
            return ""
        return (
            f"{self.path} sets {_join(present)} but is ignored, because {self.reason}; "
            "qa config trust allows it. "
        )


def _join(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def absolute(path: Path) -> Path:
    """Return the path of a `.env` file with the links in its directory resolved."""
    return Path(os.path.realpath(path.parent)) / path.name


def records_directory() -> Path:
    """Return the directory of the trust records, which may not exist yet."""
    from platformdirs import user_data_path

    return user_data_path("qa", appauthor=False) / "trusted-env-files"


def find_record(path: Path) -> TrustRecord | None:
    """Return the user's decision on the `.env` file at this absolute path."""
    record = _read_record(_record_path(path))
    return record if record is not None and record.path == path else None


def trust_of(file: EnvFile) -> Trust:
    """Return the state of trust in the file as it was read."""
    record = find_record(file.location)
    return Trust.UNKNOWN if record is None else record.state(file)


def save_record(file: EnvFile, *, trusted: bool) -> TrustRecord:
    """Save the user's decision on the file as it was read.

    Raises:
        NotConfigured: The data directory cannot be written.
    """
    record = TrustRecord(file.location, file.digest, trusted)
    target = _record_path(record.path)
    text = json.dumps({"path": str(record.path), "sha256": record.digest, "trusted": trusted})
    try:
        make_private_directory(target.parent)
        write_private(target, text.encode("ascii"))
    except OSError as error:
        raise _not_writable(target, error) from error
    return record


def delete_record(path: Path) -> bool:
    """Delete the decision on the `.env` file at this path; return whether it existed.

    Raises:
        NotConfigured: The data directory cannot be written.
    """
    target = _record_path(path)
    try:
        target.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _not_writable(target, error) from error
    return True


def all_records() -> list[TrustRecord]:
    """Return all decisions, sorted by path."""
    files = records_directory().glob("*.json")
    records = [record for file in files if (record := _read_record(file)) is not None]
    return sorted(records, key=lambda record: record.path)


def _record_path(path: Path) -> Path:
    return records_directory() / f"{_sha256(os.fsencode(path))}.json"


def _read_record(path: Path) -> TrustRecord | None:
    """Return the record in the file; None if the file is damaged or cannot be read."""
    try:
        values = json.loads(path.read_bytes())
        record = TrustRecord(Path(values["path"]), values["sha256"], values["trusted"] is True)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if isinstance(record.digest, str) else None


def _not_writable(path: Path, error: OSError) -> NotConfigured:
    return NotConfigured(
        f"The record {path} cannot be written: {error.strerror}.",
        "Make its directory writable, or set the values in the environment instead.",
    )


def _sha256(data: bytes) -> str:
    """Return the SHA-256 of data; OpenSSL is loaded only where there is a file."""
    from hashlib import sha256

    return sha256(data).hexdigest()

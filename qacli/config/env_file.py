"""The `.env` file of a directory, and the record of which of these files the user trusts.

A `.env` file can come with a cloned project, and it can name the endpoint that questions go to.
So its settings count only after `qa config trust`. As with direnv, trust belongs to the file's
path and to its content: a file that has changed must be trusted again. The records are in the
platform's data directory for qa, one file for each `.env`, readable by their owner alone. No
setting moves them: a setting could come from the file that is being judged.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from io import StringIO
from pathlib import Path

from qacli.config.file import CORRECT
from qacli.errors import NotConfigured
from qacli.private_files import write_private

LARGEST = 1024 * 1024
"""Bytes that a `.env` file may have; a larger one is never trusted."""

NAMES_SHOWN = 3
"""Settings that the notice on an ignored file names; of more it gives the number."""


class Trust(StrEnum):
    """The user's decision on a `.env` file."""

    UNKNOWN = "unknown"
    TRUSTED = "trusted"
    CHANGED = "changed"
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A `.env` file, read once: its digest, and what it sets, are of the same bytes.

    Attributes:
        path: The file as the caller named it, for messages.
        data: Its content; None where it cannot be read or is larger than `MAX_GROUP` bytes.
        problem: The reason why it cannot be read; empty where it can.
    """

    path: Path
    data: bytes | None
    problem: str = ""

    @classmethod
    def read(cls, path: Path) -> "EnvFile | None":
        """Read the file; return None where there is no such file."""
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except OSError as error:
            return cls(path, None, f"{error.strerror}")
        if len(data) > LARGEST:
            return cls(path, None, f"it is larger than {LARGEST} bytes")
        return cls(path, data)

    @property
    def location(self) -> Path:
        """The absolute path that trust belongs to, with links in the directory resolved.

        The last part is not resolved: a link to a trusted file elsewhere is not that file.
        """
        return absolute(self.path)

    @property
    def digest(self) -> str:
        """The SHA-256 of the content in hexadecimal; empty where it cannot be read."""
        return "" if self.data is None else sha256(self.data).hexdigest()

    def values(self) -> Mapping[str, str | None]:
        """Return the variables in the file; nothing in them is replaced or run.

        Raises:
            NotConfigured: The file cannot be read, or is not UTF-8.
        """
        from dotenv import dotenv_values

        return dotenv_values(stream=self._stream(), interpolate=False)

    def line(self, name: str) -> int | None:
        """Return the line of the last assignment to the variable; None where there is none."""
        from dotenv.parser import parse_stream

        lines = [each.original.line for each in parse_stream(self._stream()) if each.key == name]
        return lines[-1] if lines else None

    def names_of(self, known: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names that the file seems to give a value.

        A search for lines, in time linear in the file's size and without the parser: this is for
        a file that is not trusted, in which nothing is believed.
        """
        if self.data is None:
            return ()
        listed = b"|".join(re.escape(name.encode()) for name in known)
        pattern = rb"(?m)^[ \t]*(?:export[ \t]+)?'?(" + listed + rb")'?[ \t]*=[ \t]*([^\s#]\S?)"
        found = re.findall(pattern, self.data)
        named = [name.decode() for name, value in found if value not in {b'""', b"''"}]
        return tuple(dict.fromkeys(named))

    def _stream(self) -> StringIO:
        if self.data is None:
            raise NotConfigured(f"The file {self.path} cannot be read: {self.problem}.", CORRECT)
        try:
            return StringIO(self.data.decode("utf-8-sig"), newline=None)
        except UnicodeDecodeError as error:
            raise NotConfigured(f"The file {self.path} cannot be read: {error}.", CORRECT) from None


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """A decision of the user: this path, with this content, is trusted or refused."""

    path: Path
    digest: str
    trusted: bool

    def state(self, file: EnvFile | None) -> Trust:
        """Return the decision for the file as it is now; None is a file that does not exist."""
        if file is None:
            return Trust.MISSING
        if self.digest != file.digest or file.data is None:
            return Trust.CHANGED if self.trusted else Trust.UNKNOWN
        return Trust.TRUSTED if self.trusted else Trust.REFUSED


@dataclass(frozen=True, slots=True)
class IgnoredEnvFile:
    """A `.env` file in the working directory that is not trusted, so that it does not count.

    Attributes:
        path: Its absolute path.
        names: The variables of qa's settings that it sets, and that the environment does not.
        trust: The user's decision, as far as there is one.
    """

    path: Path
    names: tuple[str, ...]
    trust: Trust

    @property
    def reason(self) -> str:
        """The reason why the file does not count."""
        if self.trust is Trust.CHANGED:
            return "it has changed since it was trusted"
        return "it is not trusted"

    @property
    def notice(self) -> str:
        """One line that says that the file is ignored, and how to allow it."""
        shown = list(self.names[:NAMES_SHOWN])
        if len(self.names) > NAMES_SHOWN:
            shown.append(f"{len(self.names) - NAMES_SHOWN} more")
        sets = f" It sets {_listed(shown)}." if shown else ""
        return (
            f"{self.path} is ignored: {self.reason}.{sets} To see it and trust it: qa config trust"
        )

    def advice(self, *names: str) -> str:
        """Return a sentence for an error that one of these settings would have prevented.

        Empty where the file sets none of them; else it ends with a space.
        """
        there = [name for name in names if name in self.names]
        if not there:
            return ""
        return (
            f"{self.path} sets {_listed(there)} but is ignored, because {self.reason}; "
            "qa config trust allows it. "
        )


def _listed(words: Sequence[str]) -> str:
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
    """Return whether the file, as it was read, is trusted."""
    record = find_record(file.location)
    return Trust.UNKNOWN if record is None else record.state(file)


def save_record(file: EnvFile, *, trusted: bool) -> TrustRecord:
    """Keep the user's decision on the file as it was read.

    Raises:
        NotConfigured: The data directory cannot be written.
    """
    record = TrustRecord(file.location, file.digest, trusted)
    target = _record_path(record.path)
    text = json.dumps({"path": str(record.path), "sha256": record.digest, "trusted": trusted})
    try:
        target.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(target, text.encode("ascii"))
    except OSError as error:
        raise _not_writable(target, error) from error
    return record


def delete_record(path: Path) -> bool:
    """Forget the decision on the `.env` file at this absolute path; return whether there was one.

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
    """Return all decisions, in the order of their paths."""
    records = map(_read_record, records_directory().glob("*.json"))
    return sorted((each for each in records if each is not None), key=lambda each: each.path)


def _record_path(path: Path) -> Path:
    return records_directory() / f"{sha256(os.fsencode(path)).hexdigest()}.json"


def _read_record(path: Path) -> TrustRecord | None:
    """Return the record in the file; a file that is not a whole record is none."""
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

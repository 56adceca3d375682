"""Recognise a file by its content and read its records, for `qa import`.

The file can be an export of qa (JSON Lines or CSV), a SQLite history of qa, or a file of another
program (see `Program`); each also compressed with gzip, and from standard input.
"""

import csv
import gzip
import io
import re
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from qacli.db.chat_exports import chatgpt, claude, openwebui, read_conversations, shell_gpt
from qacli.db.chat_files import (
    AICHAT_HEADING,
    AICHAT_SESSION,
    MODS_MARK,
    aichat_messages,
    aichat_session,
    crush_sessions,
    is_crush_database,
    mods_show,
)
from qacli.db.chat_records import sort_by_time
from qacli.db.import_formats import CSV, JSONL, Program
from qacli.db.importers import REQUIRED_FIELDS, ForeignRecord, ImportedRecord
from qacli.db.json_elements import first_keys, json_objects
from qacli.db.llm_logs import is_llm_database, read_llm_logs
from qacli.db.qa_exports import read_csv, read_history, read_json_lines
from qacli.db.sqlite_file import HEADER, SqliteFile, open_sqlite
from qacli.domain import now
from qacli.errors import InvalidRequest

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
CONVERSATIONS = re.compile(r"(?:.*/)?conversations(?:[-_]\d+)?\.json")
"""The files of conversations in the zip archive that ChatGPT or Claude sends."""

HEAD_SIZE = 2**16
"""The number of bytes at the beginning of a file that identify its format."""

BUFFER_SIZE = 2**17
ADVICE = (
    "Import an export of qa (jsonl or csv), a history.db of qa, or a file of llm, ChatGPT, Claude, "
    "Open WebUI, shell-gpt, aichat, mods or crush."
)


READERS = {
    Program.CHATGPT: ("mapping", chatgpt),
    Program.CLAUDE: ("chat_messages", claude),
    Program.OPENWEBUI: ("chat", openwebui),
}
"""The key that a conversation of each program has, and the function that reads it."""


@dataclass(frozen=True, slots=True)
class ImportSource:
    """A file that has been recognised.

    Attributes:
        format: `jsonl` or `csv` for an export of qa, else the name of the program.
        documents: Its records, in order; reading them can raise InvalidRequest.
        omitted: The number of values that a record has no field for, by their description;
            complete once all records have been read.
        is_empty: The file has no text, so it may be of any program.
    """

    format: str
    documents: Iterator[ImportedRecord]
    omitted: Counter[str] = field(default_factory=Counter)
    is_empty: bool = False

    @property
    def program(self) -> Program:
        """The program that wrote the file."""
        return Program.QA if self.format in {JSONL, CSV} else Program(self.format)


@contextmanager
def open_import_source(path: str) -> Iterator[ImportSource]:
    """Open a file and recognise its format.

    Args:
        path: The file; `-` is standard input.

    Raises:
        InvalidRequest: The file cannot be read, its format is unknown, or it is damaged.
    """
    name = "Standard input" if path == "-" else path
    with ExitStack() as stack:
        with _explain_errors(name):
            source = _open(path, name, stack)
        yield source


def _open(path: str, name: str, stack: ExitStack) -> ImportSource:
    """Open a file and return its records; `stack` closes the files that they are read from."""
    if path == "-":
        head, stream = _peek(sys.stdin.buffer)
    else:
        # Not through Path: a pipe such as <(command) can be read as well.
        head, stream = _peek(stack.enter_context(open(path, "rb")))  # noqa: PTH123, SIM115 - as above; the stack closes it
    is_compressed = head.startswith(GZIP)
    if is_compressed:
        head, stream = _peek(gzip.GzipFile(fileobj=stream))
    is_zip = head.startswith(ZIP)
    if not head.startswith(HEADER) and not is_zip:
        return _read_text(name, head, stream, None if path == "-" else Path(path))
    if not is_compressed and Path(path).is_file():
        if is_zip:
            return _read_zip(path, name, stack)
        return _read_database(stack.enter_context(open_sqlite(path)))
    copy = Path(stack.enter_context(TemporaryDirectory(prefix="qa-import-"))) / "copy.db"
    with copy.open("wb") as file:
        shutil.copyfileobj(stream, file)
    if is_zip:
        return _read_zip(str(copy), name, stack)
    return _read_database(stack.enter_context(open_sqlite(str(copy), name)))


@contextmanager
def _explain_errors(name: str) -> Iterator[None]:
    """Turn the errors of reading a file into one sentence."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8 text: {error}.", "Convert it first.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidRequest(f"{name} cannot be unpacked: {error}.", "Get it again.") from None
    except OSError as error:
        reason = error.strerror or error
        raise InvalidRequest(f"{name} cannot be read: {reason}.", "Name an export.") from None


def _reading(
    name: str, documents: Iterator[ImportedRecord] | Iterator[ForeignRecord]
) -> Iterator[ImportedRecord]:
    """Yield the records of a text, and explain errors of reading it."""
    with _explain_errors(name):
        yield from documents


class _PrependedStream(io.RawIOBase):
    """A stream whose beginning was read already, from its beginning."""

    def __init__(self, head: bytes, rest: IO[bytes] | gzip.GzipFile) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as the base has it
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _peek(stream: IO[bytes] | gzip.GzipFile) -> tuple[bytes, IO[bytes]]:
    """Return the beginning of a stream, and the stream from its beginning."""
    head = stream.read(HEAD_SIZE)
    return head, io.BufferedReader(_PrependedStream(head, stream), BUFFER_SIZE)


def _read_zip(path: str, name: str, stack: ExitStack) -> ImportSource:
    """Return the records of the archive that ChatGPT or Claude sends.

    Raises:
        InvalidRequest: The archive has no conversations, or cannot be read.
    """
    try:
        archive = stack.enter_context(ZipFile(path))
        members = sorted(filter(CONVERSATIONS.fullmatch, archive.namelist()))
        if not members:
            raise InvalidRequest(f"{name} has no conversations.json.", ADVICE)
        with archive.open(members[0]) as member:
            beginning = member.read(HEAD_SIZE).decode("utf-8-sig", "replace").lstrip()
    except (BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InvalidRequest(f"{name} cannot be unpacked: {error}.", "Get it again.") from None
    form = _json_format(beginning)
    if form not in READERS:
        raise InvalidRequest(f"The format of {members[0]} in {name} is not known.", ADVICE)

    def objects() -> Iterator[Any]:
        for member in members:
            with archive.open(member) as data:
                yield from json_objects(io.TextIOWrapper(data, encoding="utf-8-sig"))

    return _conversations(name, form, objects())


def _json_format(beginning: str) -> Program | None:
    """Return the format of a JSON text by the keys of its first object; None for other texts."""
    if not beginning.startswith(("{", "[")):
        return None
    keys = first_keys(beginning)
    if beginning.startswith("[") and {"role", "content"} <= keys:
        return Program.SGPT
    if "question" in keys:
        return None
    return next((form for form, (key, _) in READERS.items() if key in keys), None)


def _conversations(name: str, form: Program, objects: Iterator[Any]) -> ImportSource:
    """Return the records of an export of conversations, the oldest first."""
    omitted: Counter[str] = Counter()
    records = read_conversations(READERS[form][1], objects, omitted)
    return ImportSource(form, _reading(name, sort_by_time(records)), omitted)


def _chat_file(
    name: str, beginning: str, stream: IO[bytes], file: Path | None
) -> ImportSource | None:
    """Return the records of a file of another program; None if it is not one."""
    form = _json_format(beginning)
    omitted: Counter[str] = Counter()
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    if form in READERS:
        return _conversations(name, form, json_objects(text))
    saved_at = now() if file is None else datetime.fromtimestamp(file.stat().st_mtime, UTC)
    chat = "" if file is None else file.stem
    if form is Program.SGPT:
        records = shell_gpt(chat, json_objects(text), saved_at, omitted)
    elif AICHAT_HEADING.match(beginning.partition("\n")[0]):
        form = Program.AICHAT
        records = sort_by_time(aichat_messages(text, omitted))
    elif AICHAT_SESSION.match(beginning):
        form = Program.AICHAT
        records = aichat_session(chat, text, saved_at, omitted)
    elif MODS_MARK.match(beginning):
        form = Program.MODS
        records = mods_show(chat, text, saved_at, omitted)
    else:
        text.detach()
        return None
    return ImportSource(form, _reading(name, records), omitted)


def _read_text(name: str, head: bytes, stream: IO[bytes], file: Path | None) -> ImportSource:
    """Recognise an export, and return its records."""
    beginning = head.decode("utf-8-sig", "replace").lstrip()
    if source := _chat_file(name, beginning, stream, file):
        return source
    header = next(csv.reader(beginning.splitlines()[:1]), [])
    if REQUIRED_FIELDS.issubset(header):
        # The csv module itself reads line ends, which can be within quotes.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        return ImportSource(CSV, _reading(name, read_csv(text)))
    if beginning and not beginning.startswith("{"):
        raise InvalidRequest(f"The format of {name} is not known.", ADVICE)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    return ImportSource(JSONL, _reading(name, read_json_lines(text)), is_empty=not beginning)


def _read_database(file: SqliteFile) -> ImportSource:
    """Recognise a SQLite database, and return its records."""
    omitted: Counter[str] = Counter()
    if "question_answer" in file.tables:
        return ImportSource(Program.QA, read_history(file, omitted), omitted)
    if is_llm_database(file):
        return ImportSource(Program.LLM, read_llm_logs(file, omitted), omitted)
    if is_crush_database(file):
        records = sort_by_time(crush_sessions(file, omitted))
        return ImportSource(Program.CRUSH, records, omitted)
    raise InvalidRequest(f"{file.path} is a SQLite database of another program.", ADVICE)

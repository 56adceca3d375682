"""Recognise a file by its content and read its records, for `qa import`.

The file can be an export of qa (JSON Lines or CSV), a SQLite history of qa, or a file of another
program (see `Format`); each also compressed with gzip, and from standard input.
"""

import csv
import gzip
import io
import json
import re
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

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
from qacli.db.conversations_import import in_order_of_time
from qacli.db.importers import (
    REQUIRED_FIELDS,
    ForeignRecord,
    ImportedRecord,
    from_jsonl,
    not_a_record,
)
from qacli.db.json_elements import first_keys, json_objects
from qacli.db.llm_logs import is_llm_database, read_llm_logs
from qacli.db.sqlite_file import HEADER, Row, SqliteFile, open_sqlite
from qacli.domain import now
from qacli.errors import InvalidRequest
from qacli.serializers import JSON_FIELDS, TIME_FIELDS

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
CONVERSATIONS = re.compile(r"(?:.*/)?conversations(?:[-_]\d+)?\.json")
"""The files of conversations in the zip archive that ChatGPT or Claude sends."""

HEAD_SIZE = 2**16
"""The number of bytes at the beginning of a file that identify its format."""

BUFFER_SIZE = 2**17
PAGE = 500
MAX_CELL_LENGTH = 2**31 - 1
SHARED = ("shared_system", "shared_params")
DERIVED_COLUMNS = {"fingerprint", "system_id", "params_id", *SHARED}
"""Columns of a history that are computed from the others, or are parts of them."""

WITH_SHARED_VALUES = (
    "SELECT question_answer.*, system.value AS shared_system, params.value AS shared_params "
    "FROM question_answer LEFT JOIN shared_value AS system ON system.id = system_id "
    "LEFT JOIN shared_value AS params ON params.id = params_id "
    "WHERE ?1 IS NULL OR question_answer.id > ?1 ORDER BY question_answer.id LIMIT ?2"
)

ADVICE = (
    "Import an export of qa (jsonl or csv), a history.db of qa, or a file of llm, ChatGPT, Claude, "
    "Open WebUI, shell-gpt, aichat, mods or crush."
)


class Format(StrEnum):
    """The format of a file, by its content."""

    JSONL = "jsonl"
    CSV = "csv"
    QA = "qa"
    LLM = "llm"
    CHATGPT = "chatgpt"
    CLAUDE = "claude"
    OPENWEBUI = "openwebui"
    SGPT = "sgpt"
    AICHAT = "aichat"
    MODS = "mods"
    CRUSH = "crush"

    @property
    def program(self) -> str:
        """The name of the program that wrote the file."""
        return "qa" if self in {Format.JSONL, Format.CSV, Format.QA} else self.value


FORMAT_NAMES = {
    Format.JSONL: "a JSON Lines export of qa",
    Format.CSV: "a CSV export of qa",
    Format.QA: "a history of qa",
    Format.LLM: "a logs database of llm",
    Format.CHATGPT: "an export of ChatGPT",
    Format.CLAUDE: "an export of Claude",
    Format.OPENWEBUI: "an export of Open WebUI",
    Format.SGPT: "a chat of shell-gpt",
    Format.AICHAT: "a file of aichat",
    Format.MODS: "a conversation of mods",
    Format.CRUSH: "a database of crush",
}

READERS = {
    Format.CHATGPT: ("mapping", chatgpt),
    Format.CLAUDE: ("chat_messages", claude),
    Format.OPENWEBUI: ("chat", openwebui),
}
"""The key that a conversation of each program has, and the function that reads it."""


@dataclass(frozen=True, slots=True)
class ImportSource:
    """A file that has been recognised.

    Attributes:
        format: The file's format.
        documents: Its records, in order; reading them can raise InvalidRequest.
        omitted: The number of values that a record has no field for, by their description;
            complete once all records have been read.
    """

    format: Format
    documents: Iterator[ImportedRecord]
    omitted: Counter[str] = field(default_factory=Counter)


@contextmanager
def open_import_source(path: str) -> Iterator[ImportSource]:
    """Open a file and recognise its format.

    Args:
        path: The file; `-` is standard input.

    Raises:
        InvalidRequest: It cannot be read, its format is unknown, or it is damaged.
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
        InvalidRequest: It has no conversations, or cannot be read.
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


def _json_format(beginning: str) -> Format | None:
    """Return the format of a JSON text by the keys of its first object; None for other texts."""
    if not beginning.startswith(("{", "[")):
        return None
    keys = first_keys(beginning)
    if beginning.startswith("[") and {"role", "content"} <= keys:
        return Format.SGPT
    if "question" in keys:
        return None
    return next((form for form, (key, _) in READERS.items() if key in keys), None)


def _conversations(name: str, form: Format, objects: Iterator[Any]) -> ImportSource:
    """Return the records of an export of conversations, the oldest first."""
    omitted: Counter[str] = Counter()
    records = read_conversations(READERS[form][1], objects, omitted)
    return ImportSource(form, _reading(name, in_order_of_time(records)), omitted)


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
    if form is Format.SGPT:
        records = shell_gpt(chat, json_objects(text), saved_at, omitted)
    elif AICHAT_HEADING.match(beginning.partition("\n")[0]):
        form = Format.AICHAT
        records = in_order_of_time(aichat_messages(text, omitted))
    elif AICHAT_SESSION.match(beginning):
        form = Format.AICHAT
        records = aichat_session(chat, text, saved_at, omitted)
    elif MODS_MARK.match(beginning):
        form = Format.MODS
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
        return ImportSource(Format.CSV, _reading(name, _of_csv(text)))
    if beginning and not beginning.startswith("{"):
        raise InvalidRequest(f"The format of {name} is not known.", ADVICE)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    return ImportSource(Format.JSONL, _reading(name, from_jsonl(text)))


def _read_database(file: SqliteFile) -> ImportSource:
    """Recognise a SQLite database, and return its records."""
    omitted: Counter[str] = Counter()
    if "question_answer" in file.tables:
        return ImportSource(Format.QA, _of_history(file, omitted), omitted)
    if is_llm_database(file):
        return ImportSource(Format.LLM, read_llm_logs(file, omitted), omitted)
    if is_crush_database(file):
        records = in_order_of_time(crush_sessions(file, omitted))
        return ImportSource(Format.CRUSH, records, omitted)
    raise InvalidRequest(f"{file.path} is a SQLite database of another program.", ADVICE)


def _of_csv(lines: IO[str]) -> Iterator[ImportedRecord]:
    """Yield the records of a CSV export.

    CSV has no difference between an empty text and null: an empty cell is the field's default.
    """
    csv.field_size_limit(MAX_CELL_LENGTH)
    reader = csv.DictReader(lines, strict=True)
    try:
        for row in reader:
            yield _of_cells(row, f"The row that ends at line {reader.line_num}")
    except csv.Error as error:
        raise InvalidRequest(
            f"Line {reader.line_num} is not CSV: {error}.",
            "The records before it were added; correct it and import again.",
        ) from None


def _of_cells(row: dict[str, Any], where: str) -> ImportedRecord:
    fields = {
        name: _json(value) if name in JSON_FIELDS else value
        for name, value in row.items()
        if value or name in REQUIRED_FIELDS
    }
    try:
        return ImportedRecord.model_validate(fields)
    except ValidationError as error:
        raise not_a_record(where, error) from None


def _of_history(file: SqliteFile, omitted: Counter[str]) -> Iterator[ImportedRecord]:
    """Yield the records of a SQLite history of qa with a schema of any version."""
    file.check("question_answer")
    if "batch_item" in file.tables:
        query = "SELECT count(*) AS number FROM batch_item WHERE state IN ('waiting', 'claimed')"
        if number := file.rows(query)[0]["number"]:
            omitted["questions of batches without an answer"] += number
    last_id: object = None
    query = "SELECT * FROM question_answer WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2"
    if "shared_value" in file.tables:
        query = WITH_SHARED_VALUES
    while rows := file.rows(query, last_id, PAGE):
        for row in rows:
            for name in row.keys() - ImportedRecord.model_fields.keys() - DERIVED_COLUMNS:
                if row[name] not in {None, "", "[]", "{}"}:
                    omitted[f"values of {name}"] += 1
            try:
                yield ImportedRecord.model_validate(_of_row(row))
            except ValidationError as error:
                raise not_a_record(f"Record {row['id']}", error) from None
        last_id = rows[-1]["id"]


def _of_row(row: Row) -> dict[str, Any]:
    """Return the fields of a record in a row of a history."""
    values = {name: row[name] for name in row if name in ImportedRecord.model_fields}
    for name in TIME_FIELDS:
        values[name] = _utc(values.get(name))
    for name in JSON_FIELDS:
        values[name] = _json(values.get(name)) or _default(name)
    if row.get("shared_system") is not None:
        values["system"] = row["shared_system"]
    own, shared = values["params"], _json(row.get("shared_params"))
    if isinstance(own, dict) and isinstance(shared, dict):
        values["params"] = {**own, **shared}
    return values


def _default(name: str) -> object:
    default = ImportedRecord.model_fields[name].get_default(call_default_factory=True)
    return None if default is PydanticUndefined else default


def _json(text: object) -> object:
    """Return the value of a JSON text; any other value is returned as it is, and checked later."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text


def _utc(text: object) -> object:
    """Parse a time of a SQLite history, which is in UTC and has no offset."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

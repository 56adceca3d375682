"""What is in a batch's file: questions, read one at a time.

Text (a question a line), CSV and TSV (a column, or a template over the columns), JSON lines (our
own objects, or the request lines of OpenAI's Batch API), each also compressed with gzip.
"""

import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from qacli.batch.tables import Row, table_rows
from qacli.domain import Question
from qacli.errors import InvalidRequest
from qacli.json_schema import checked_schema, response_format
from qacli.prompt_templates import Pattern
from qacli.validation import sanitize_text, validate_tag, validate_text

FORMATS = ("txt", "csv", "tsv", "jsonl")
OPENAI_URL = "/v1/chat/completions"
NAMED = ("system", "model", "temperature", "max_tokens", "schema", "tags")


@dataclass(frozen=True, slots=True)
class BatchInput:
    """One question of a batch.

    Attributes:
        position: Its place in the file, from 0.
        key: Its name in the batch: the file's own, or from position and content.
        payload: `question`, and what it sets of its own: `system`, `params`, `tags`.
        error: Why it cannot be asked; its payload holds the line as it stands then.
    """

    position: int
    key: str
    payload: dict[str, Any]
    error: str | None = None

    def stored(self) -> dict[str, Any]:
        """The payload as the database keeps it; an item that cannot be asked says why."""
        return self.payload if self.error is None else {**self.payload, "error": self.error}

    def ask(
        self, batch_id: int, *, model: str, system: str | None, params: dict[str, Any]
    ) -> Question:
        """The question, with what the batch sets where the item does not."""
        merged = {"model": model, **params, **self.payload.get("params", {})}
        return Question(
            question=self.payload["question"],
            system=self.payload.get("system", system),
            params=merged,
            tags=self.payload.get("tags", []),
            batch_id=batch_id,
            item_key=self.key,
        )


def format_of(path: Path | None, named: str | None) -> str:
    """The format: as named, or by the file's name, or a question a line.

    Raises:
        InvalidRequest: The name's ending is none that is known.
    """
    if named is not None:
        if named not in FORMATS:
            raise InvalidRequest(
                f"There is no --input {named}.", f"There are {', '.join(FORMATS)}."
            )
        return named
    if path is None:
        return "txt"
    ending = Path(path.stem if path.suffix == ".gz" else path.name).suffix.removeprefix(".")
    ending = {"ndjson": "jsonl", "text": "txt", "": "txt"}.get(ending, ending)
    if ending not in FORMATS:
        raise InvalidRequest(
            f"The format of {path} is not known by its name.",
            f"Say which it is: --input {'|'.join(FORMATS)}",
        )
    return ending


@contextmanager
def open_input(path: Path | None, spool: IO[bytes] | None = None) -> Iterator[IO[str]]:
    """Open the file as text, unpacked where it is compressed.

    Args:
        path: The file; None is standard input.
        spool: What is read in its place, from its start.

    Raises:
        InvalidRequest: It cannot be opened.
    """
    binary: IO[bytes]
    try:
        if spool is not None:
            binary = os.fdopen(os.dup(spool.fileno()), "rb")
            binary.seek(0)
        else:
            binary = sys.stdin.buffer if path is None else path.open("rb")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", "Name a file.") from error
    with binary:
        peek = binary.peek(2)[:2] if isinstance(binary, io.BufferedReader) else b""
        data = gzip.GzipFile(fileobj=binary) if peek == b"\x1f\x8b" else binary
        yield io.TextIOWrapper(data, encoding="utf-8-sig", newline="")


def read_items(  # noqa: PLR0913 - how a file is read, by name
    path: Path | None,
    *,
    form: str,
    template: str | None = None,
    column: str | None = None,
    skip_bad: bool = False,
    quotes: bool | None = None,
    spool: IO[bytes] | None = None,
) -> Iterator[BatchInput]:
    """The items of a file, in order, one in memory at a time.

    Args:
        path: The file; None is standard input.
        form: One of `FORMATS`.
        template: The question, with `{column}` where a row's own text belongs.
        column: The column that holds the question, where there is no template.
        skip_bad: Give an item that cannot be asked with its error, instead of ending there.
        quotes: Whether a field of a table may stand in quotes; None is yes for CSV, no for TSV.
        spool: What is read in place of the file, see `opened`.

    Raises:
        InvalidRequest: A line cannot be used; says which and why.
    """
    question = _template_pattern(template, column)
    with open_input(path, spool) as file:
        rows = _rows(file, form, quotes_of(form, quotes))
        for position, (number, raw, row) in enumerate(rows):
            try:
                if isinstance(row, InvalidRequest):
                    raise row
                item = _item(position, row, question, own=form == "jsonl")
            except InvalidRequest as error:
                what = f"Line {number}: {error.what}"
                if not skip_bad:
                    raise InvalidRequest(
                        what, error.todo or "Correct it or say --skip-bad."
                    ) from None
                item = BatchInput(
                    position,
                    _item_key(position, raw),
                    {"question": sanitize_text(raw) or "(empty)"},
                    what,
                )
            yield item


def quotes_of(form: str, quotes: bool | None) -> bool:  # noqa: FBT001 - the option
    """Return whether a field may stand in quotes.

    Raises:
        InvalidRequest: It was said of a file that is no table.
    """
    if quotes is not None and form not in {"csv", "tsv"}:
        raise InvalidRequest(
            "--quotes and --no-quotes are for CSV and TSV.", "Leave the option out."
        )
    return form == "csv" if quotes is None else quotes


def _rows(file: IO[str], form: str, quotes: bool) -> Iterator[Row]:  # noqa: FBT001 - as `quotes_of`
    """Read line number, the line as it stands, and its fields, or why it has none."""
    try:
        if form in {"csv", "tsv"}:
            yield from table_rows(file, "\t" if form == "tsv" else ",", quotes=quotes)
            return
        for number, line in enumerate(file, 1):
            text = line.rstrip("\r\n")
            if not text.strip():
                continue
            yield number, text, _object(text) if form == "jsonl" else {"question": text}
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The file is not UTF-8 text: {error.reason}.", "Convert it to UTF-8 first."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(
            f"The file cannot be read: {error}.", "See that it is whole."
        ) from None


def _object(text: str) -> Mapping[str, Any] | InvalidRequest:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, str):
        return {"question": value}
    return value if isinstance(value, dict) else InvalidRequest("it is not a JSON object.")


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _template_pattern(
    template: str | None, column: str | None
) -> Callable[[Mapping[str, Any]], str | None]:
    """How a row's question is made."""
    if template is None:
        names = (column,) if column else ("question", "prompt", "text")
        return lambda row: next((str(row[name]) for name in names if row.get(name)), None)
    pattern = Pattern.parse(template)
    if not pattern.names or not all(pattern.names):
        raise InvalidRequest(
            "The template has no {column} in it.", 'Write it like: "Translate to French: {text}"'
        )

    def fill(row: Mapping[str, Any]) -> str:
        def value(name: str) -> str:
            if name not in row:
                raise InvalidRequest(
                    f"there is no column {name!r}; there are {', '.join(map(repr, row))}."
                )
            found = row[name]
            return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

        return pattern.fill(value)

    return fill


def _item(
    position: int,
    row: Mapping[str, Any],
    question: Callable[[Mapping[str, Any]], str | None],
    *,
    own: bool,
) -> BatchInput:
    if "custom_id" in row and "body" in row:
        payload, key = _openai(row), str(row["custom_id"])
    else:
        text = question(row)
        if not text or not text.strip():
            raise InvalidRequest("there is no question in it.")
        # A column of a table is text: a car's model is none to ask.
        payload = {"question": text, **(_own_settings(row) if own else {})}
        given = row.get("id")
        key = str(given) if given not in (None, "") else _item_key(position, json.dumps(payload))
    validate_text(key, "its id")
    # What cannot be asked is refused now, and not after an hour of asking.
    BatchInput(position, key, payload).ask(0, model="m", system=None, params={})
    return BatchInput(position, key, payload)


def _own_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """What an object sets for itself."""
    found = {name: row[name] for name in NAMED if row.get(name) not in (None, "")}
    params: dict[str, Any] = {}
    try:
        if "model" in found:
            params["model"] = str(found["model"])
        if "temperature" in found:
            params["temperature"] = float(found["temperature"])
        if "max_tokens" in found:
            params["max_tokens"] = int(found["max_tokens"])
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest("temperature or max_tokens is not a number.") from None
    if "schema" in found:
        params["response_format"] = response_format(found["schema"])
        # What no answer can be checked by is refused before anything is asked.
        checked_schema(json.dumps(params["response_format"]["json_schema"]["schema"]))
    settings: dict[str, Any] = {"params": params} if params else {}
    if "system" in found:
        settings["system"] = str(found["system"])
    if "tags" in found:
        tags = found["tags"]
        settings["tags"] = [str(tag) for tag in (tags if isinstance(tags, list) else [tags])]
        for tag in settings["tags"]:
            validate_tag(tag)
    return settings


def _openai(row: Mapping[str, Any]) -> dict[str, Any]:
    """A request line of OpenAI's Batch API: its body goes to the provider as it is."""
    body = row["body"]
    if row.get("url", OPENAI_URL) != OPENAI_URL or row.get("method", "POST") != "POST":
        raise InvalidRequest(f"only POST {OPENAI_URL} can be asked.")
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise InvalidRequest("its body has no messages.")
    if body.get("stream"):
        raise InvalidRequest("its body asks for a stream.")
    # What the batch sets is not sent, so it is not what the record should say.
    system = next(
        (
            message.get("content")
            for message in body["messages"]
            if isinstance(message, dict) and message.get("role") in {"system", "developer"}
        ),
        None,
    )
    system = system if isinstance(system, str) else None
    return {"question": _last_words(body["messages"]), "system": system, "params": dict(body)}


def _last_words(messages: Iterable[object]) -> str:
    """The last user message's text."""
    for message in reversed(list(messages)):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                texts = [part.get("text") for part in content if isinstance(part, dict)]
                return "\n".join(text for text in texts if isinstance(text, str))
    raise InvalidRequest("its body has no message of the user.")


def _item_key(position: int, content: str) -> str:
    return f"{position + 1}-{sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"

"""Read the items of a batch's file, one at a time.

The formats are text (a question in each line), CSV and TSV (a column, or a template with columns)
and JSON Lines (objects of qa, or request lines of OpenAI's Batch API), each also with gzip.
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

from qacli.batch.options import BatchOptions
from qacli.batch.tables import Row, table_rows
from qacli.errors import InvalidRequest
from qacli.json_schema import checked_schema, response_format
from qacli.model_options import OPTION_NAMES, check_names, merge_params
from qacli.prompt_templates import Pattern
from qacli.validation import sanitize_text, validate_tag, validate_text

FORMATS = ("txt", "csv", "tsv", "jsonl")
OPENAI_URL = "/v1/chat/completions"
ITEM_SETTINGS = ("system", "model", *OPTION_NAMES, "options", "schema", "tags")

ITEM_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "temperature": float,
    "max_tokens": int,
    "top_p": float,
    "seed": int,
    "stop": lambda value: [str(text) for text in (value if isinstance(value, list) else [value])],
    "reasoning_effort": str,
    "verbosity": str,
}
"""The options that go to the model, each with the conversion of a value in a file."""


@dataclass(frozen=True, slots=True)
class BatchInput:
    """One question of a batch.

    Attributes:
        position: The position in the file, from 0.
        key: The item's id in the file, or one made of its position and content.
        payload: `question`, and the item's own settings: `system`, `params`, `tags`.
        error: The reason why it cannot be asked; its payload has the line then.
    """

    position: int
    key: str
    payload: dict[str, Any]
    error: str | None = None

    def stored(self) -> dict[str, Any]:
        """Return the payload as the database stores it, with the reason if it cannot be asked."""
        return self.payload if self.error is None else {**self.payload, "error": self.error}


def format_of(path: Path | None, option: str | None) -> str:
    """Return the format of the option `--input` or of the file's name; by default text.

    Raises:
        InvalidRequest: The option or the file's suffix is unknown.
    """
    if option is not None:
        if option not in FORMATS:
            raise InvalidRequest(
                f"There is no --input {option}.", f"There are {', '.join(FORMATS)}."
            )
        return option
    if path is None:
        return "txt"
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.removeprefix(".")
    suffix = {"ndjson": "jsonl", "text": "txt", "": "txt"}.get(suffix, suffix)
    if suffix not in FORMATS:
        raise InvalidRequest(
            f"The format of {path} cannot be recognised by its name.",
            f"Name it: --input {'|'.join(FORMATS)}",
        )
    return suffix


@contextmanager
def open_input(path: Path | None, spool: IO[bytes] | None = None) -> Iterator[IO[str]]:
    """Open a file as text, decompressed if it is compressed.

    Args:
        path: The file; None is standard input.
        spool: A copy to read instead, from its beginning.

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
    """Yield the items of a file, in order, with one of them in memory.

    Args:
        path: The file; None is standard input.
        form: One of `FORMATS`.
        template: The question, with `{column}` in place of a row's value.
        column: The column with the question, if there is no template.
        skip_bad: Yield an item that cannot be asked with its error, instead of raising it.
        quotes: Whether fields of a table can be quoted; None is true for CSV, false for TSV.
        spool: A copy to read instead; see `open_input`.

    Raises:
        InvalidRequest: A line cannot be used; the message has its number and the reason.
    """
    question = _question_builder(template, column)
    with open_input(path, spool) as file:
        rows = _rows(file, form, quotes_of(form, quotes))
        for position, (number, raw, row) in enumerate(rows):
            try:
                if isinstance(row, InvalidRequest):
                    raise row
                item = _item(position, row, question, own=form == "jsonl")
            except InvalidRequest as error:
                message = f"Line {number}: {error.what}"
                if not skip_bad:
                    raise InvalidRequest(
                        message, error.todo or "Correct it, or use --skip-bad."
                    ) from None
                item = BatchInput(
                    position,
                    _item_key(position, raw),
                    {"question": sanitize_text(raw) or "(empty)"},
                    message,
                )
            yield item


def quotes_of(form: str, quotes: bool | None) -> bool:  # noqa: FBT001 - the option
    """Return whether fields can be quoted.

    Raises:
        InvalidRequest: The option was used for a file that is not a table.
    """
    if quotes is not None and form not in {"csv", "tsv"}:
        raise InvalidRequest(
            "--quotes and --no-quotes are for CSV and TSV.", "Leave the option out."
        )
    return form == "csv" if quotes is None else quotes


def _rows(file: IO[str], form: str, quotes: bool) -> Iterator[Row]:  # noqa: FBT001 - as `quotes_of`
    """Yield the number, the text and the fields of each line, or an error instead of the fields."""
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
            f"The file cannot be read: {error}.", "Check that it is complete."
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


def _question_builder(
    template: str | None, column: str | None
) -> Callable[[Mapping[str, Any]], str | None]:
    """Return a function that builds the question of a row.

    It uses the template or the column, otherwise `question`, `prompt` or `text`. It returns None
    for a row without a value there.
    """
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
            cell = row[name]
            return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)

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
        # The columns of a table are not settings: a column "model" may be about cars.
        payload = {"question": text, **(_own_settings(row) if own else {})}
        own_id = row.get("id")
        key = str(own_id) if own_id not in (None, "") else _item_key(position, json.dumps(payload))
    validate_text(key, "its id")
    # Refuse an invalid question now, and not after an hour of asking.
    BatchOptions(batch_id=0, model="m").question(key, payload)
    return BatchInput(position, key, payload)


def _own_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an object for its own question: `system`, `params` and `tags`."""
    values = {name: row[name] for name in ITEM_SETTINGS if row.get(name) not in (None, "")}
    params = _own_params(values)
    if "schema" in values:
        params["response_format"] = response_format(values["schema"])
        # Refuse an unusable schema before any question is sent.
        checked_schema(json.dumps(params["response_format"]["json_schema"]["schema"]))
    settings: dict[str, Any] = {"params": params} if params else {}
    if "system" in values:
        settings["system"] = str(values["system"])
    if "tags" in values:
        tags = values["tags"]
        settings["tags"] = [str(tag) for tag in (tags if isinstance(tags, list) else [tags])]
        for tag in settings["tags"]:
            validate_tag(tag)
    return settings


def _own_params(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model and its options from the settings of an object."""
    params: dict[str, Any] = {"model": str(values["model"])} if "model" in values else {}
    for name, convert in ITEM_OPTIONS.items():
        if name in values:
            try:
                params[name] = convert(values[name])
            except (TypeError, ValueError, OverflowError):
                raise InvalidRequest(f"{name} is not a number.") from None
    options = values.get("options", {})
    if not isinstance(options, dict):
        raise InvalidRequest("its options are not an object.")
    check_names(options)
    return merge_params(params, options)


def _openai(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a request line of OpenAI's Batch API, whose body is sent unchanged."""
    body = row["body"]
    if row.get("url", OPENAI_URL) != OPENAI_URL or row.get("method", "POST") != "POST":
        raise InvalidRequest(f"only POST {OPENAI_URL} can be asked.")
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise InvalidRequest("its body has no messages.")
    if body.get("stream"):
        raise InvalidRequest("its body asks for a stream.")
    # The system prompt of the batch is not sent, so the record must not have it.
    system = next(
        (
            message.get("content")
            for message in body["messages"]
            if isinstance(message, dict) and message.get("role") in {"system", "developer"}
        ),
        None,
    )
    system = system if isinstance(system, str) else None
    question = _last_user_text(body["messages"])
    return {"question": question, "system": system, "params": dict(body)}


def _last_user_text(messages: Iterable[object]) -> str:
    """Return the text of the last user message."""
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

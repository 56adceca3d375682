"""Read the logs database of `llm` (https://llm.datasette.io), in both of its layouts.

Up to llm 0.31 an exchange is a row of `responses`. From 0.32 on it is a row of `turns`: its input
and its output are chains of rows of `messages`, each with its `parts`. A database can hold both,
since llm keeps the old rows when it is updated. The two tables share their ids, so an id that is
in both is one exchange, and is read from `turns`.

The ids are ULIDs, which sort by time: the exchanges come in that order, and one that follows up
another comes after it.
"""

import json
import mimetypes
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from qacli.db.importers import ImportedRecord
from qacli.db.sqlite_file import Row, SqliteFile
from qacli.errors import BrokenAnswer
from qacli.redaction import redact_url
from qacli.validation import parse_count, sanitize_text

PAGE = 500
"""How many exchanges are in memory at once."""

OLD, NEW = "responses", "turns"
TABLES = (
    *(OLD, "attachments", "prompt_attachments", "schemas", "fragments", "tools"),
    *("prompt_fragments", "system_fragments", "tool_responses", "tool_calls", "tool_results"),
    *(NEW, "threads", "messages", "parts", "turn_tools"),
)
"""The tables that are read, where a version of llm has them."""

NO_TEXT = "(no text)"
"""The question of an exchange that was asked with attachments alone."""


@dataclass(slots=True)
class _Exchange:
    """One prompt and its response, from either layout.

    Attributes:
        row: The row of `responses` or `turns`; the columns that both have keep their names.
        conversation: The id of the conversation.
        follows: The number of the exchange that this one follows up.
        prompt: The prompt with the text of its fragments, and tool results as text.
        system: The system prompt with the text of its fragments.
        response: The text of the response, and tool calls as text.
        reasoning: Whether the response has reasoning.
        attachments: Rows of `attachments`, with `size` for their content.
        tools: Rows of `tools`: the tools that were offered.
    """

    row: Row
    conversation: str | None
    follows: int | None = None
    prompt: str = ""
    system: str | None = None
    response: str = ""
    reasoning: bool = False
    attachments: list[Row] = field(default_factory=list)
    tools: list[Row] = field(default_factory=list)


def is_llm_database(file: SqliteFile) -> bool:
    """Return whether the file has the tables of either layout."""
    columns = {
        OLD: ("id", "prompt", "response", "datetime_utc"),
        NEW: ("id", "thread_id", "tip_message_hash", "datetime_utc"),
    }
    return any(
        table in file.tables
        and {row["name"] for row in file.rows(f"PRAGMA table_info({table})")}.issuperset(names)
        for table, names in columns.items()
    )


def read_llm_logs(file: SqliteFile, omitted: Counter[str]) -> Iterator[ImportedRecord]:
    """Return the exchanges of an llm database as records, the oldest first.

    Args:
        file: The database.
        omitted: Counts what a record has no place for, by what it is.

    Raises:
        InvalidRequest: A table is damaged. Nothing has been returned then.
    """
    file.check(*TABLES)
    if "logs" in file.tables:
        [older] = file.rows("SELECT count(*) AS number FROM logs")
        _count(omitted, "exchanges of llm before 0.5", older["number"])
    if "tool_instances" in file.tables:
        [configured] = file.rows("SELECT count(*) AS number FROM tool_instances")
        _count(omitted, "toolbox configurations", configured["number"])
    old, new = _OldLayout(file), _NewLayout(file)
    last: dict[str, int] = {}
    number = 0
    for page in _pages(file):
        exchanges = new.read([id_ for id_, table in page if table == NEW])
        exchanges += old.read([id_ for id_, table in page if table == OLD])
        _count(omitted, "exchanges without their messages", len(page) - len(exchanges))
        # Ids of the same millisecond can be in any order.
        for exchange in sorted(exchanges, key=lambda each: str(each.row["datetime_utc"])):
            number += 1
            exchange.follows = new.follows(exchange)
            if exchange.follows is None and exchange.conversation is not None:
                exchange.follows = last.get(exchange.conversation)
            document = _document(exchange, number, omitted)
            if document is None:
                _count(omitted, "exchanges without a readable time")
                continue
            if exchange.conversation is not None:
                last[exchange.conversation] = number
            new.remember(exchange, number)
            yield document


def _count(omitted: Counter[str], what: str, number: int = 1) -> None:
    if number:
        omitted[what] += number


def _pages(file: SqliteFile) -> Iterator[list[tuple[str, str]]]:
    """Return the ids of all exchanges and the table of each, in order, a page at a time."""
    new = "SELECT id, 'turns' AS source FROM turns WHERE id > ?1"
    old = "SELECT id, 'responses' AS source FROM responses WHERE id > ?1"
    if {OLD, NEW} <= file.tables:
        query = f"{new} UNION ALL {old} AND id NOT IN (SELECT id FROM turns)"  # noqa: S608 - as written above
    else:
        query = new if NEW in file.tables else old
    query += f" ORDER BY id LIMIT {PAGE}"
    last = ""
    while page := [(row["id"], row["source"]) for row in file.rows(query, last)]:
        yield page
        last = page[-1][0]


class _OldLayout:
    """The tables of llm up to 0.31: a row of `responses` for each exchange."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def read(self, ids: list[str]) -> list[_Exchange]:
        """Return the exchanges with these ids."""
        if not ids:
            return []
        fragments = self._joined("prompt_fragments", "fragments", "fragment_id", ids)
        system = self._joined("system_fragments", "fragments", "fragment_id", ids)
        attachments = self._joined("prompt_attachments", "attachments", "attachment_id", ids)
        tools = self._joined("tool_responses", "tools", "tool_id", ids)
        calls, results = self._of("tool_calls", ids), self._of("tool_results", ids)
        exchanges = []
        for row in _by_id(self._file, OLD, ids):
            id_ = row["id"]
            # As llm itself puts the texts together (Prompt.prompt and Prompt.system of 0.31).
            texts = [str(each["content"]) for each in fragments.get(id_, [])]
            prompt = "\n".join([*texts, *([row["prompt"]] if row["prompt"] else [])])
            bits = [*(str(each["content"]) for each in system.get(id_, [])), row["system"] or ""]
            exchanges.append(
                _Exchange(
                    row,
                    row.get("conversation_id"),
                    prompt=_blocks([*map(_result_text, results.get(id_, [])), prompt]),
                    system="\n\n".join(bit.strip() for bit in bits if bit.strip()) or None,
                    response=_blocks([row["response"] or "", *map(_call_text, calls.get(id_, []))]),
                    reasoning=bool(row.get("reasoning")),
                    attachments=attachments.get(id_, []),
                    tools=tools.get(id_, []),
                )
            )
        return exchanges

    def _joined(self, link: str, table: str, key: str, ids: list[str]) -> dict[str, list[Row]]:
        """Return the rows of a table that a linking table assigns to each exchange, in order."""
        if not {link, table} <= self._file.tables:
            return {}
        columns = ATTACHMENT if table == "attachments" else "t.*"
        order = "l.rowid" if table == "tools" else 'l."order"'
        return _grouped(
            self._file.rows(
                f"SELECT l.response_id, {columns} FROM {link} l JOIN {table} t ON t.id = l.{key}"  # noqa: S608 - our own names
                f" WHERE l.response_id IN (SELECT value FROM json_each(?)) ORDER BY {order}",
                ids,
            )
        )

    def _of(self, table: str, ids: list[str]) -> dict[str, list[Row]]:
        """Return the rows of a table that belong to each exchange."""
        if table not in self._file.tables:
            return {}
        where = "response_id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return _grouped(self._file.rows(f"SELECT * FROM {table} WHERE {where}", ids))  # noqa: S608 - our own names


class _NewLayout:
    """The tables of llm from 0.32 on: a row of `turns` for each exchange.

    A turn has read the chain of messages up to `parent_message_hash`, and has written those from
    there up to `tip_message_hash`. Conversations with the same beginning share its messages.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._messages: dict[str, Row] = {}
        self._system: dict[str, str | None] = {}
        self._ends: dict[str, list[tuple[str | None, int]]] = {}
        self._forked_from: dict[str, str] = {}
        if "threads" in file.tables:
            forks = file.rows("SELECT id, forked_from FROM threads WHERE forked_from IS NOT NULL")
            self._forked_from = {row["id"]: row["forked_from"] for row in forks}

    def read(self, ids: list[str]) -> list[_Exchange]:
        """Return the exchanges with these ids, but those whose messages are missing."""
        self._messages.clear()
        if not ids:
            return []
        tools = _grouped(
            self._file.rows(
                "SELECT l.turn_id AS response_id, t.* FROM turn_tools l JOIN tools t"
                " ON t.id = l.tool_id WHERE l.turn_id IN (SELECT value FROM json_each(?))",
                ids,
            )
        )
        exchanges = []
        for row in _by_id(self._file, NEW, ids):
            with suppress(LookupError):
                exchange = self._exchange(row)
                exchange.tools = tools.get(row["id"], [])
                exchanges.append(exchange)
        return exchanges

    def follows(self, exchange: _Exchange) -> int | None:
        """Return the number of the exchange whose last message this one goes on from.

        It is the nearest in the chain of messages that belongs to the same thread, or to one that
        the thread was forked from: another conversation may have the same messages by chance.
        """
        thread = exchange.conversation
        threads = [thread]
        while (thread := self._forked_from.get(thread or "")) and thread not in threads:
            threads.append(thread)
        with suppress(LookupError):
            for message in self._chain(exchange.row.get("parent_message_hash")):
                ends = dict(self._ends.get(message["hash"], []))
                for each in threads:
                    if each in ends:
                        return ends[each]
        return None

    def remember(self, exchange: _Exchange, number: int) -> None:
        """Note that this exchange ends with its last message."""
        if tip := exchange.row.get("tip_message_hash"):
            self._ends.setdefault(tip, []).append((exchange.conversation, number))

    def _exchange(self, row: Row) -> _Exchange:
        start, tip = row["parent_message_hash"], row["tip_message_hash"]
        read: list[Row] = []
        written: list[Row] = []
        for message in self._chain(start):
            if message["role"] not in {"user", "tool"}:
                break
            read.insert(0, message)
        for message in self._chain(tip):
            if message["hash"] == start:
                break
            written.insert(0, message)
        prompt = [self._parts(message["hash"]) for message in read]
        response = [part for message in written for part in self._parts(message["hash"])]
        attached = [id_ for parts in prompt for part in parts for id_ in part["attached"]]
        return _Exchange(
            row,
            row["thread_id"],
            prompt=_blocks(map(_parts_text, prompt)),
            system=self._system_prompt(start, tip),
            response=_parts_text(response),
            reasoning=any(part["type"] == "reasoning" and part["text"] for part in response),
            attachments=self._attachments(list(dict.fromkeys(attached))),
        )

    def _chain(self, tip: str | None) -> Iterator[Row]:
        """Return the messages from this one back to the first.

        Raises:
            LookupError: One of them is missing, or they go round in a circle.
        """
        seen = set()
        while tip is not None:
            query = "SELECT hash, parent_hash, role FROM messages WHERE hash = ?"
            message = self._messages.get(tip) or self._file.row(query, tip)
            if message is None or tip in seen:
                raise LookupError(tip)
            self._messages[tip] = message
            seen.add(tip)
            yield message
            tip = message["parent_hash"]

    def _system_prompt(self, start: str | None, tip: str | None) -> str | None:
        """Return the text of the system message that the exchange was asked with."""
        found = None
        for message in self._chain(start):
            if message["hash"] in self._system:
                found = self._system[message["hash"]]
                break
            if message["role"] == "system":
                found = message["hash"]
                break
        # The next exchange of the thread finds it there, however long the thread is.
        if tip is not None:
            self._system[tip] = found
        return found and (_parts_text(self._parts(found)) or None)

    def _parts(self, message: str) -> list[Row]:
        """Return the parts of a message; of each `type`, `text`, `attached` ids and its payload."""
        parts = []
        query = "SELECT type, text, payload FROM parts WHERE message_hash = ? ORDER BY position"
        for row in self._file.rows(query, message):
            payload = _object(row["payload"])
            text = row["text"]
            if text is None:
                pieces = payload.get("text_ref") or [{"literal": payload.get("text") or ""}]
                text = "".join(map(self._piece, pieces))
            one = payload.get("attachment")
            attached = [*([one] if one else []), *(payload.get("attachments") or [])]
            ids = [each["id"] for each in attached if "id" in each]
            parts.append({**payload, "type": row["type"], "text": text, "attached": ids})
        return parts

    def _piece(self, piece: dict[str, Any]) -> str:
        """Return a piece of a text: a literal one, or that of a fragment."""
        if "literal" in piece:
            return str(piece["literal"])
        query = "SELECT content FROM fragments WHERE id = ?"
        fragment = self._file.row(query, piece.get("fragment"))
        return str(fragment["content"]) if fragment else ""

    def _attachments(self, ids: list[str]) -> list[Row]:
        if not ids:
            return []
        where = "id IN (SELECT value FROM json_each(?))"
        rows = self._file.rows(f"SELECT {ATTACHMENT} FROM attachments t WHERE {where}", ids)  # noqa: S608 - our own names
        return sorted(rows, key=lambda row: ids.index(row["id"]))


ATTACHMENT = "t.id, t.type, t.path, t.url, length(t.content) AS size"
"""The columns of an attachment; of its content only how long it is."""


def _by_id(file: SqliteFile, table: str, ids: list[str]) -> list[Row]:
    """Return the rows of `responses` or `turns` with these ids, each with its schema as text."""
    rows = file.rows(f"SELECT * FROM {table} WHERE id IN (SELECT value FROM json_each(?))", ids)  # noqa: S608 - our own names
    wanted = list({row["schema_id"] for row in rows if row.get("schema_id")})
    if wanted:
        query = "SELECT id, content FROM schemas WHERE id IN (SELECT value FROM json_each(?))"
        schemas = {row["id"]: row["content"] for row in file.rows(query, wanted)}
        for row in rows:
            row["schema"] = schemas.get(row.get("schema_id"))
    return rows


def _grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["response_id"], []).append(row)
    return groups


def _blocks(texts: Iterable[str]) -> str:
    """Put texts together as paragraphs."""
    return "\n\n".join(text for text in texts if text)


def _parts_text(parts: Iterable[Row]) -> str:
    """Return the text of a message; its tool calls and results are paragraphs of their own."""
    blocks = [""]
    for part in parts:
        if part["type"] == "text":
            blocks[-1] += part["text"]
        elif part["type"] == "tool_call":
            blocks += [_call_text(part), ""]
        elif part["type"] == "tool_result":
            blocks += [_result_text(part), ""]
    return _blocks(blocks)


def _call_text(call: Row) -> str:
    """Return a tool call as text: `Tool call: multiply({"a": 6, "b": 7})`."""
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f"Tool call: {call.get('name')}({arguments})"


def _result_text(result: Row) -> str:
    """Return the result of a tool as text: `Tool result of multiply: 42`."""
    text = f"Tool result of {result.get('name')}: {result.get('output') or ''}"
    return f"{text}\n{result['exception']}" if result.get("exception") else text


def _document(exchange: _Exchange, number: int, omitted: Counter[str]) -> ImportedRecord | None:
    """Return the exchange as a record, or None where its time cannot be read."""
    row = exchange.row
    try:
        asked_at = datetime.fromisoformat(row["datetime_utc"])
    except (TypeError, ValueError):
        return None
    asked_at = asked_at if asked_at.tzinfo else asked_at.replace(tzinfo=UTC)
    latency = parse_count(row.get("duration_ms"))
    response, raw = exchange.response, _object(row.get("response_json"))
    fields = {
        "id": number,
        "question": exchange.prompt if exchange.prompt.strip() else NO_TEXT,
        "answer": response or None,
        "created_at": asked_at,
        "status": "answered" if response else "failed",
        "error_kind": None if response else BrokenAnswer.kind,
        "error": None if response else "The answer is empty.",
        "answered_at": asked_at + timedelta(milliseconds=latency or 0) if response else None,
        "latency_ms": latency,
        "model": row.get("resolved_model") or row.get("model"),
        "provider_response_id": _text(raw.get("id")),
        "finish_reason": _text(raw.get("finish_reason") or raw.get("stop_reason")),
        "system": exchange.system,
        "params": _params(exchange),
        "prompt_tokens": parse_count(row.get("input_tokens")),
        "completion_tokens": parse_count(row.get("output_tokens")),
        "follows_id": exchange.follows,
        "tags": ["llm"],
        "uid": sha256(f"llm:{row['id']}".encode()).hexdigest()[:32],
        "attachments": [_attachment(each, n) for n, each in enumerate(exchange.attachments, 1)],
    }
    try:
        document = ImportedRecord.model_validate({name: _storable(fields[name]) for name in fields})
    except (ValidationError, OverflowError):
        return None
    _count(omitted, "reasoning of answers", exchange.reasoning)
    _count(omitted, "token details", bool(_object(row.get("token_details"))))
    _count(omitted, "raw provider responses", bool(raw))
    _count(omitted, "contents of attachments", sum(bool(e["size"]) for e in exchange.attachments))
    return document


def _params(exchange: _Exchange) -> dict[str, Any]:
    """Return what shaped the answer, in the names of the Chat Completions API."""
    row = exchange.row
    params = {**_object(row.get("options_json")), "model": row.get("model")}
    if schema := _object(row.get("schema")):
        params["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": schema},
        }
    if exchange.tools:
        params["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool["name"],
                    "description": tool.get("description") or "",
                    "parameters": _object(tool.get("input_schema")),
                },
            }
            for tool in exchange.tools
        ]
    return params


def _attachment(row: Row, number: int) -> dict[str, Any]:
    """Return what a record keeps of an attachment: `name`, `size` in bytes and `sha256`.

    llm's id of it is the SHA-256 of its bytes, but of one at an address, which llm has not read.
    """
    if row["url"] and not row["size"] and not row["path"]:
        return {"name": redact_url(row["url"]), "size": None, "sha256": None}
    ending = mimetypes.guess_extension(row["type"] or "") or ""
    name = row["path"] or f"attachment-{number}{ending}"
    return {"name": name, "size": row["size"], "sha256": row["id"]}


def _object(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a column; an empty one where there is none."""
    try:
        value = json.loads(text or "{}", parse_constant=lambda _: None)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _storable(value: Any) -> Any:  # noqa: ANN401 - a field's value
    """Return a value with texts that any database can hold."""
    if isinstance(value, str):
        return sanitize_text(value)
    if isinstance(value, dict):
        return {sanitize_text(str(name)): _storable(each) for name, each in value.items()}
    return [_storable(each) for each in value] if isinstance(value, list) else value

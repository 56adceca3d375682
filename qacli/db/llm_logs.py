"""Read the logs database of `llm` (https://llm.datasette.io), in both of its layouts.

A database can have both layouts (see `qacli.db.llm_layouts`), because llm keeps the old rows when
it is updated. The two tables share their ids: an id that is in both is one exchange, which is read
from `turns`.

The ids are ULIDs, which sort by time: exchanges are read in that order, so that a follow-up comes
after the exchange that it follows up.
"""

import mimetypes
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

from qacli.db.chat_records import NO_TEXT, parse_time
from qacli.db.importers import ForeignRecord, foreign_record
from qacli.db.llm_layouts import NEW, OLD, Exchange, NewLayout, OldLayout, json_object
from qacli.db.sqlite_file import Row, SqliteFile
from qacli.errors import BrokenAnswer
from qacli.redaction import redact_url
from qacli.validation import parse_count

PAGE = 500
"""Exchanges in memory at once."""

TABLES = (
    *(OLD, "attachments", "prompt_attachments", "schemas", "fragments", "tools"),
    *("prompt_fragments", "system_fragments", "tool_responses", "tool_calls", "tool_results"),
    *(NEW, "threads", "messages", "parts", "turn_tools"),
)
"""The tables that are read, if this version of llm has them."""


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


def read_llm_logs(file: SqliteFile, omitted: Counter[str]) -> Iterator[ForeignRecord]:
    """Return the exchanges of an llm database as records, the oldest first.

    Args:
        file: The database.
        omitted: Counts the values that a record has no field for, by their description.

    Raises:
        InvalidRequest: A table is damaged; no record was returned.
    """
    file.check(*TABLES)
    if "logs" in file.tables:
        [older] = file.rows("SELECT count(*) AS number FROM logs")
        _count(omitted, "exchanges of llm before 0.5", older["number"])
    if "tool_instances" in file.tables:
        [instances] = file.rows("SELECT count(*) AS number FROM tool_instances")
        _count(omitted, "toolbox configurations", instances["number"])
    old, new = OldLayout(file), NewLayout(file)
    last_uids: dict[str, str] = {}
    for page in _pages(file):
        exchanges = new.read([id_ for id_, table in page if table == NEW])
        exchanges += old.read([id_ for id_, table in page if table == OLD])
        _count(omitted, "exchanges without their messages", len(page) - len(exchanges))
        # Ids of the same millisecond can be in any order.
        for exchange in sorted(exchanges, key=lambda item: str(item.row["datetime_utc"])):
            exchange.follows = new.follows(exchange)
            if exchange.follows is None and exchange.conversation is not None:
                exchange.follows = last_uids.get(exchange.conversation)
            document = _document(exchange, omitted)
            if document is None:
                _count(omitted, "exchanges without a readable time")
                continue
            uid = _uid(exchange)
            if exchange.conversation is not None:
                last_uids[exchange.conversation] = uid
            new.remember(exchange, uid)
            yield document


def _uid(exchange: Exchange) -> str:
    return sha256(f"llm:{exchange.row['id']}".encode()).hexdigest()[:32]


def _count(omitted: Counter[str], description: str, number: int = 1) -> None:
    if number:
        omitted[description] += number


def _pages(file: SqliteFile) -> Iterator[list[tuple[str, str]]]:
    """Yield the ids of all exchanges and the table of each, in order, a page at a time."""
    new = "SELECT id, 'turns' AS source FROM turns WHERE id > ?1"
    old = "SELECT id, 'responses' AS source FROM responses WHERE id > ?1"
    if {OLD, NEW} <= file.tables:
        query = f"{new} UNION ALL {old} AND id NOT IN (SELECT id FROM turns)"  # noqa: S608 - as written above
    else:
        query = new if NEW in file.tables else old
    query += f" ORDER BY id LIMIT {PAGE}"
    last_id = ""
    while page := [(row["id"], row["source"]) for row in file.rows(query, last_id)]:
        yield page
        last_id = page[-1][0]


def _document(exchange: Exchange, omitted: Counter[str]) -> ForeignRecord | None:
    """Return the exchange as a record; None if its time cannot be read."""
    row = exchange.row
    asked_at = parse_time(row["datetime_utc"])
    if asked_at is None:
        return None
    latency = parse_count(row.get("duration_ms"))
    response, raw = exchange.response, json_object(row.get("response_json"))
    fields = {
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
        "follows_uid": exchange.follows,
        "tags": ["llm"],
        "uid": _uid(exchange),
        "attachments": [_attachment(item, n) for n, item in enumerate(exchange.attachments, 1)],
    }
    document = foreign_record(fields)
    if document is None:
        return None
    _count(omitted, "reasoning of answers", exchange.reasoning)
    _count(omitted, "token details", bool(json_object(row.get("token_details"))))
    _count(omitted, "raw provider responses", bool(raw))
    contents = sum(bool(item["size"]) for item in exchange.attachments)
    _count(omitted, "contents of attachments", contents)
    return document


def _params(exchange: Exchange) -> dict[str, Any]:
    """Return the parameters of the request, with the names of the Chat Completions API."""
    row = exchange.row
    params = {**json_object(row.get("options_json")), "model": row.get("model")}
    if schema := json_object(row.get("schema")):
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
                    "parameters": json_object(tool.get("input_schema")),
                },
            }
            for tool in exchange.tools
        ]
    return params


def _attachment(row: Row, number: int) -> dict[str, Any]:
    """Return an attachment as a record has it: `name`, `size` in bytes and `sha256`.

    Its id in llm is the SHA-256 of its bytes, except for a URL, whose content llm has not read.
    """
    if row["url"] and not row["size"] and not row["path"]:
        return {"name": redact_url(row["url"]), "size": None, "sha256": None}
    ending = mimetypes.guess_extension(row["type"] or "") or ""
    name = row["path"] or f"attachment-{number}{ending}"
    return {"name": name, "size": row["size"], "sha256": row["id"]}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

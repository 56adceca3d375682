"""The two layouts of the tables of `llm`, read as exchanges.

Up to llm 0.31 an exchange is a row of `responses`. From 0.32 on it is a row of `turns`: its input
and its output are chains of rows of `messages`, each with its `parts`.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from qacli.db.sqlite_file import Row, SqliteFile

OLD, NEW = "responses", "turns"

ATTACHMENT = "t.id, t.type, t.path, t.url, length(t.content) AS size"
"""The columns of an attachment, with the length of its content in place of the content."""


@dataclass(slots=True)
class Exchange:
    """One prompt and its response, from the old or the new layout of llm's database.

    Attributes:
        row: The row of `responses` or `turns`; the columns that both have keep their names.
        conversation: The id of the conversation.
        follows: The uid of the record that this one follows up.
        prompt: The prompt with the text of its fragments, and tool results as text.
        system: The system prompt with the text of its fragments.
        response: The text of the response, and tool calls as text.
        reasoning: True if the response has reasoning.
        attachments: Rows of `attachments`, with the size of the content in `size`.
        tools: Rows of `tools`: the tools that were offered.
    """

    row: Row
    conversation: str | None
    follows: str | None = None
    prompt: str = ""
    system: str | None = None
    response: str = ""
    reasoning: bool = False
    attachments: list[Row] = field(default_factory=list)
    tools: list[Row] = field(default_factory=list)


class OldLayout:
    """The tables of llm up to 0.31: a row of `responses` for each exchange."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def read(self, ids: list[str]) -> list[Exchange]:
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
            # As llm itself joins the texts (Prompt.prompt and Prompt.system of 0.31).
            texts = [str(fragment["content"]) for fragment in fragments.get(id_, [])]
            prompt = "\n".join([*texts, *([row["prompt"]] if row["prompt"] else [])])
            system_texts = [str(fragment["content"]) for fragment in system.get(id_, [])]
            system_texts.append(row["system"] or "")
            exchanges.append(
                Exchange(
                    row,
                    row.get("conversation_id"),
                    prompt=_blocks([*map(_result_text, results.get(id_, [])), prompt]),
                    system=_blocks(text.strip() for text in system_texts) or None,
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


class NewLayout:
    """The tables of llm from 0.32 on: a row of `turns` for each exchange.

    The input of a turn is the chain of messages up to `parent_message_hash`; its output is the
    messages from there up to `tip_message_hash`. Conversations with the same beginning share
    messages.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._messages: dict[str, Row] = {}
        self._system: dict[str, str | None] = {}
        self._ends: dict[str, list[tuple[str | None, str]]] = {}
        self._forked_from: dict[str, str] = {}
        if "threads" in file.tables:
            forks = file.rows("SELECT id, forked_from FROM threads WHERE forked_from IS NOT NULL")
            self._forked_from = {row["id"]: row["forked_from"] for row in forks}

    def read(self, ids: list[str]) -> list[Exchange]:
        """Return the exchanges with these ids, without those whose messages are missing."""
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

    def follows(self, exchange: Exchange) -> str | None:
        """Return the uid of the record that this one follows up, or None.

        It is the nearest one in the chain of messages that belongs to the same thread, or to a
        thread that this one was forked from: other conversations may have the same messages.
        """
        thread = exchange.conversation
        threads = [thread]
        while (thread := self._forked_from.get(thread or "")) and thread not in threads:
            threads.append(thread)
        with suppress(LookupError):
            for message in self._chain(exchange.row.get("parent_message_hash")):
                ends = dict(self._ends.get(message["hash"], []))
                for thread_id in threads:
                    if thread_id in ends:
                        return ends[thread_id]
        return None

    def remember(self, exchange: Exchange, uid: str) -> None:
        """Store the exchange's last message, for the exchanges that follow it up."""
        if last_message := exchange.row.get("tip_message_hash"):
            self._ends.setdefault(last_message, []).append((exchange.conversation, uid))

    def _exchange(self, row: Row) -> Exchange:
        start, last_message = row["parent_message_hash"], row["tip_message_hash"]
        inputs: list[Row] = []
        outputs: list[Row] = []
        for message in self._chain(start):
            if message["role"] not in {"user", "tool"}:
                break
            inputs.insert(0, message)
        for message in self._chain(last_message):
            if message["hash"] == start:
                break
            outputs.insert(0, message)
        prompt = [self._parts(message["hash"]) for message in inputs]
        response = [part for message in outputs for part in self._parts(message["hash"])]
        attachments = [id_ for parts in prompt for part in parts for id_ in part["attachment_ids"]]
        return Exchange(
            row,
            row["thread_id"],
            prompt=_blocks(map(_parts_text, prompt)),
            system=self._system_prompt(start, last_message),
            response=_parts_text(response),
            reasoning=any(part["type"] == "reasoning" and part["text"] for part in response),
            attachments=self._attachments(list(dict.fromkeys(attachments))),
        )

    def _chain(self, last_message: str | None) -> Iterator[Row]:
        """Yield the messages from this one back to the first.

        Raises:
            LookupError: A message is missing, or the chain is a circle.
        """
        seen = set()
        while last_message is not None:
            query = "SELECT hash, parent_hash, role FROM messages WHERE hash = ?"
            message = self._messages.get(last_message) or self._file.row(query, last_message)
            if message is None or last_message in seen:
                raise LookupError(last_message)
            self._messages[last_message] = message
            seen.add(last_message)
            yield message
            last_message = message["parent_hash"]

    def _system_prompt(self, start: str | None, last_message: str | None) -> str | None:
        """Return the text of the exchange's system message, or None."""
        system = None
        for message in self._chain(start):
            if message["hash"] in self._system:
                system = self._system[message["hash"]]
                break
            if message["role"] == "system":
                system = message["hash"]
                break
        # For the next exchange of the thread, so that the search is short in a long thread.
        if last_message is not None:
            self._system[last_message] = system
        return system and (_parts_text(self._parts(system)) or None)

    def _parts(self, message: str) -> list[Row]:
        """Return the parts of a message, each with `type`, `text`, `attachment_ids` and payload."""
        parts = []
        query = "SELECT type, text, payload FROM parts WHERE message_hash = ? ORDER BY position"
        for row in self._file.rows(query, message):
            payload = json_object(row["payload"])
            text = row["text"]
            if text is None:
                pieces = payload.get("text_ref") or [{"literal": payload.get("text") or ""}]
                text = "".join(map(self._piece, pieces))
            attachments = [payload.get("attachment"), *(payload.get("attachments") or [])]
            ids = [item["id"] for item in attachments if item and "id" in item]
            parts.append({**payload, "type": row["type"], "text": text, "attachment_ids": ids})
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


def _by_id(file: SqliteFile, table: str, ids: list[str]) -> list[Row]:
    """Return the rows of `responses` or `turns` with these ids, each with its schema as text."""
    rows = file.rows(f"SELECT * FROM {table} WHERE id IN (SELECT value FROM json_each(?))", ids)  # noqa: S608 - our own names
    schema_ids = list({row["schema_id"] for row in rows if row.get("schema_id")})
    if schema_ids:
        query = "SELECT id, content FROM schemas WHERE id IN (SELECT value FROM json_each(?))"
        schemas = {row["id"]: row["content"] for row in file.rows(query, schema_ids)}
        for row in rows:
            row["schema"] = schemas.get(row.get("schema_id"))
    return rows


def _grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["response_id"], []).append(row)
    return groups


def _blocks(texts: Iterable[str]) -> str:
    """Join texts as paragraphs, without empty ones."""
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


def json_object(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a column; an empty one if the text is not a JSON object."""
    try:
        value = json.loads(text or "{}", parse_constant=lambda _: None)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

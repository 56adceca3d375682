"""Write an answer as a response of the Responses API: its events, and the whole document.

See https://platform.openai.com/docs/api-reference/responses-streaming for the order of the events.
"""

import json
from collections.abc import Mapping
from typing import Any

from qacli.cost import Usage

ECHOED: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""The parameters of the request that a response repeats, and their values if they are not set."""

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The finish reasons after which a response is incomplete, and its reason."""

Event = dict[str, Any]


class ResponsesWriter:
    """Writes one response. Items open when their first piece comes, and close before the next one.

    Only tool calls stay open to the end: the pieces of several calls may come in turns.

    Attributes:
        events: The events that were not taken yet.

    Args:
        response_id: The id of the response.
        params: The body of the request.
        created_at: The time, in seconds since 1970.
        model: The model that was asked.
        key: The uid of the question, of which the ids of the items are made.
    """

    def __init__(
        self, response_id: str, params: Mapping[str, Any], created_at: int, model: str, *, key: str
    ) -> None:
        self.events: list[Event] = []
        self._number = 0
        self._key = key
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._calls: dict[int, dict[str, Any]] = {}
        self.response: dict[str, Any] = {
            "id": response_id,
            "object": "response",
            "created_at": created_at,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **{
                name: default if params.get(name) is None else params[name]
                for name, default in ECHOED.items()
            },
        }

    def start(self, model: str | None) -> None:
        """Write the first two events; later calls do nothing."""
        if self._number:
            return
        self.response["model"] = model or self.response["model"]
        for kind in ("created", "in_progress"):
            self._emit(f"response.{kind}", response=dict(self.response))

    def add_reasoning(self, text: str) -> None:
        """Write a piece of the reasoning."""
        item = self._open_item("reasoning", "rs", summary=[])
        if not item["summary"]:
            item["summary"].append({"type": "summary_text", "text": ""})
            part = {"type": "summary_text", "text": ""}
            self._emit_part("response.reasoning_summary_part.added", item, part=part)
        item["summary"][0]["text"] += text
        self._emit_part("response.reasoning_summary_text.delta", item, delta=text)

    def add_text(self, text: str, logprobs: list[Any] | None = None) -> None:
        """Write a piece of the answer, with the log probabilities of its tokens."""
        part = self._open_part({"type": "output_text", "text": "", "annotations": []})
        part["text"] += text
        if logprobs:
            part.setdefault("logprobs", []).extend(logprobs)
        item = self._open or {}
        self._emit_part(
            "response.output_text.delta", item, part=part, delta=text, logprobs=logprobs or []
        )

    def add_refusal(self, text: str) -> None:
        """Write a piece of a refusal."""
        part = self._open_part({"type": "refusal", "refusal": ""})
        part["refusal"] += text
        self._emit_part("response.refusal.delta", self._open or {}, part=part, delta=text)

    def add_call(self, place: int, call_id: str | None, name: str, arguments: str) -> None:
        """Write a call of a tool, or a piece of its arguments.

        Args:
            place: The number of the call in the answer.
            call_id: Its id; None takes the id of the item.
            name: The function.
            arguments: The new piece of the arguments.
        """
        item = self._calls.get(place)
        if item is None:
            fields = {"name": name, "arguments": "", "call_id": call_id or ""}
            item = self._open_item("function_call", "fc", **fields)
            item["call_id"] = item["call_id"] or item["id"]
            self._calls[place] = item
        if arguments:
            item["arguments"] += arguments
            self._emit_item("response.function_call_arguments.delta", item, delta=arguments)

    def add_annotations(self, annotations: list[dict[str, Any]]) -> None:
        """Write the annotations of the text, in the form of Chat Completions."""
        if not annotations or self._open is None or not self._open.get("content"):
            return
        part = self._open["content"][-1]
        for annotation in annotations:
            kind = str(annotation.get("type"))
            inner = annotation.get(kind)
            flat = {"type": kind, **inner} if isinstance(inner, dict) else annotation
            place = {"annotation": flat, "annotation_index": len(part["annotations"])}
            part["annotations"].append(flat)
            self._emit_part("response.output_text.annotation.added", self._open, part, **place)

    def finish(self, finish_reason: str | None, usage: Usage | None) -> None:
        """Write the last events; `response` is the whole response then."""
        reason = INCOMPLETE.get(finish_reason or "")
        status = "incomplete" if reason else "completed"
        last = self._output[-1] if self._output else None
        for item in ([self._open] if self._open else []) + list(self._calls.values()):
            self._close_item(item, status if item is last else "completed")
        self.response |= {
            "status": status,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": self._output,
            "usage": usage_of(usage),
        }
        self._emit(f"response.{status}", response=self.response)

    def take(self) -> bytes:
        """Return the new events as server-sent events, and forget them."""
        lines = [
            f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"
            for event in self.events
        ]
        self.events.clear()
        return "".join(lines).encode()

    def _emit(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - the fields of an event
        # A copy, because the items grow.
        event = {"type": kind, "sequence_number": self._number, **fields}
        self.events.append(json.loads(json.dumps(event)))
        self._number += 1

    def _emit_item(self, kind: str, item: dict[str, Any], **fields: Any) -> None:  # noqa: ANN401
        place = self._output.index(item)
        self._emit(kind, item_id=item["id"], output_index=place, **fields)

    def _emit_part(
        self,
        kind: str,
        item: dict[str, Any],
        part: dict[str, Any] | None = None,
        **fields: Any,  # noqa: ANN401 - the fields of an event
    ) -> None:
        if item["type"] == "reasoning":
            fields |= {"summary_index": 0} | ({"part": part} if part is not None else {})
        elif part is not None:
            fields["content_index"] = next(
                place for place, other in enumerate(item["content"]) if other is part
            )
            if kind.startswith("response.content_part"):
                fields["part"] = part
        self._emit_item(kind, item, **fields)

    def _open_item(self, kind: str, prefix: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the open item of this type; open one after the open item of another type."""
        if self._open is not None:
            if self._open["type"] == kind:
                return self._open
            self._close_item(self._open)
        item = {"id": f"{prefix}_{self._key}_{len(self._output)}", "type": kind, **fields}
        item["status"] = "in_progress"
        self._output.append(item)
        self._open = None if kind == "function_call" else item
        self._emit("response.output_item.added", output_index=len(self._output) - 1, item=item)
        return item

    def _open_part(self, empty: dict[str, Any]) -> dict[str, Any]:
        item = self._open_item("message", "msg", role="assistant", content=[])
        parts: list[dict[str, Any]] = item["content"]
        if not parts or parts[-1]["type"] != empty["type"]:
            if parts:
                self._close_part(item)
            parts.append(empty)
            self._emit_part("response.content_part.added", item, part=empty)
        return parts[-1]

    def _close_part(self, item: dict[str, Any]) -> None:
        part = item["content"][-1]
        if part["type"] == "refusal":
            self._emit_part("response.refusal.done", item, part, refusal=part["refusal"])
        else:
            fields = {"text": part["text"], "logprobs": part.get("logprobs", [])}
            self._emit_part("response.output_text.done", item, part, **fields)
        self._emit_part("response.content_part.done", item, part)

    def _close_item(self, item: dict[str, Any], status: str = "completed") -> None:
        """Write the last events of an item."""
        if item["type"] == "reasoning":
            part = item["summary"][0]
            self._emit_part("response.reasoning_summary_text.done", item, text=part["text"])
            self._emit_part("response.reasoning_summary_part.done", item, part)
        elif item["type"] == "message":
            if item["content"]:
                self._close_part(item)
        else:
            fields = {"arguments": item["arguments"], "name": item["name"]}
            self._emit_item("response.function_call_arguments.done", item, **fields)
        item["status"] = status
        self._emit("response.output_item.done", output_index=self._output.index(item), item=item)


def usage_of(usage: Usage | None) -> dict[str, Any] | None:
    """Return the usage in the form of the Responses API."""
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": prompt + completion,
    }

"""Write an answer as a chat completion: its chunks, and the whole document."""

import json
from typing import Any

from qacli.cost import Usage

END = b"data: [DONE]\n\n"


class ChatWriter:
    """Writes one chat completion.

    Args:
        completion_id: The id of the completion.
        created: The time, in seconds since 1970.
        model: The model that was asked.
        with_usage: The last chunk has the usage.
    """

    def __init__(self, completion_id: str, created: int, model: str, *, with_usage: bool) -> None:
        self._frame = {"id": completion_id, "created": created, "model": model}
        self._with_usage = with_usage
        self._pieces: list[bytes] = []
        self._has_started = False
        self._message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []
        self.response: dict[str, Any] = {}

    def start(self, model: str | None) -> None:
        """Write the first chunk; later calls do nothing."""
        if self._has_started:
            return
        self._has_started = True
        self._frame["model"] = model or self._frame["model"]
        self._chunk({"role": "assistant", "content": ""})

    def add_reasoning(self, text: str) -> None:
        """Write a piece of the reasoning."""
        self._add("reasoning_content", text)

    def add_text(self, text: str, logprobs: list[Any] | None = None) -> None:
        """Write a piece of the answer, with the log probabilities of its tokens."""
        self._logprobs += logprobs or []
        self._add("content", text, logprobs)

    def add_refusal(self, text: str) -> None:
        """Write a piece of a refusal."""
        self._add("refusal", text)

    def add_call(self, place: int, call_id: str | None, name: str, arguments: str) -> None:
        """Write a call of a tool, or a piece of its arguments; see `ResponsesWriter.add_call`."""
        call = self._calls.get(place)
        piece: dict[str, Any] = {"index": place, "function": {"arguments": arguments}}
        if call is None:
            call = {"id": call_id, "type": "function"}
            piece = {"index": place, **call, "function": {"name": name, "arguments": arguments}}
            call["function"] = {"name": name, "arguments": ""}
            self._calls[place] = call
        elif not arguments:
            return
        call["function"]["arguments"] += arguments
        self._chunk({"tool_calls": [piece]})

    def add_annotations(self, annotations: list[dict[str, Any]]) -> None:
        """Write the annotations of the text."""
        if annotations:
            self._message["annotations"] = annotations
            self._chunk({"annotations": annotations})

    def finish(self, finish_reason: str | None, usage: Usage | None) -> None:
        """Write the last chunks; `response` is the whole completion then."""
        reason = finish_reason or "stop"
        if self._calls:
            self._message["tool_calls"] = [self._calls[place] for place in sorted(self._calls)]
            reason = "tool_calls" if reason == "stop" else reason
        self._chunk({}, reason)
        if self._with_usage:
            frame = {**self._frame, "object": "chat.completion.chunk", "choices": []}
            self._write({**frame, "usage": usage_of(usage)})
        self._pieces.append(END)
        choice = {
            "index": 0,
            "message": self._message,
            "logprobs": {"content": self._logprobs, "refusal": None} if self._logprobs else None,
            "finish_reason": reason,
        }
        self.response = {**self._frame, "object": "chat.completion", "choices": [choice]}
        self.response["usage"] = usage_of(usage)

    def take(self) -> bytes:
        """Return the new chunks as server-sent events, and forget them."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _add(self, name: str, text: str, logprobs: list[Any] | None = None) -> None:
        self._message[name] = (self._message.get(name) or "") + text
        self._chunk({name: text}, logprobs=logprobs)

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: list[Any] | None = None,
    ) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        choice["logprobs"] = {"content": logprobs, "refusal": None} if logprobs else None
        chunk = {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}
        self._write({**chunk, "usage": None} if self._with_usage else chunk)

    def _write(self, chunk: dict[str, Any]) -> None:
        self._pieces.append(chunk_of(chunk))


def chunk_of(document: dict[str, Any]) -> bytes:
    """Return the server-sent event of a chunk."""
    return f"data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def usage_of(usage: Usage | None) -> dict[str, Any] | None:
    """Return the usage in the form of Chat Completions."""
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    counts["total_tokens"] = prompt + completion
    if usage.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return counts

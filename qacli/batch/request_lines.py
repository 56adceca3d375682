"""Read lines that are requests: those of OpenAI's Batch API, and objects with `messages`."""

from collections.abc import Iterable, Mapping
from typing import Any

from qacli.batch.item_settings import kind_of
from qacli.errors import InvalidRequest

CHAT_URL = "/v1/chat/completions"
RESPONSES_URL = "/v1/responses"
SAME_FIELDS = frozenset(
    {
        *("model", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls"),
        *("metadata", "user", "service_tier", "top_logprobs", "prompt_cache_key"),
        *("safety_identifier",),
    }
)
"""The fields of a Responses request that Chat Completions has by the same name and meaning."""

PART_TYPES = {"input_text": "text", "output_text": "text", "text": "text"}
CUSTOM_ID = "custom_id"


def is_request(row: Mapping[str, Any]) -> bool:
    """Return whether a line is a request and not a question with its columns."""
    return isinstance(row.get("messages"), list) or (
        CUSTOM_ID in row and ("body" in row or "params" in row)
    )


def request_payload(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a request: a body of Chat Completions is sent unchanged.

    Raises:
        InvalidRequest: The request is for another API, or qa cannot send it unchanged.
    """
    if "body" not in row and "messages" in row:
        outside = {CUSTOM_ID, "id"}
        return _chat({name: value for name, value in row.items() if name not in outside})
    if "body" not in row:
        raise InvalidRequest(
            "it is a request of Anthropic's Message Batches.",
            'Write its "params" as "body", with a system prompt as the first message.',
        )
    url, body = row.get("url", CHAT_URL), row["body"]
    if row.get("method", "POST") != "POST" or url not in {CHAT_URL, RESPONSES_URL}:
        raise InvalidRequest(
            f"it is a request to {row.get('method', 'POST')} {url}; qa asks only POST {CHAT_URL} "
            f"and {RESPONSES_URL}.",
            "Send such lines to the provider's own Batch API.",
        )
    if not isinstance(body, dict):
        raise InvalidRequest("its body is not an object.")
    return _responses(body) if url == RESPONSES_URL else _chat(body)


def _chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a body of Chat Completions."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise InvalidRequest("its body has no messages.")
    _refuse_unanswerable(body)
    last = messages[-1] if messages else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        raise InvalidRequest(
            "its last message is one of the assistant, as in data for fine-tuning.",
            "Remove that message, so that the last one is a question.",
        )
    # The system prompt of the batch is not sent, so the record must not have it.
    system = next(
        (
            message.get("content")
            for message in messages
            if isinstance(message, dict) and message.get("role") in {"system", "developer"}
        ),
        None,
    )
    return {
        "question": _last_user_text(messages),
        "system": system if isinstance(system, str) else None,
        "params": dict(body),
    }


def _refuse_unanswerable(body: Mapping[str, Any]) -> None:
    if body.get("stream"):
        raise InvalidRequest("its body requests a stream.", "Leave the field 'stream' out.")
    if body.get("n") not in (None, 1):
        raise InvalidRequest(
            f"its body requests several answers: n is {body['n']}.",
            "qa keeps one answer to a question; write the line several times, each with its own "
            "custom_id.",
        )


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


def _responses(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a body of the Responses API, as a body of Chat Completions.

    qa asks either API with the same body, by the model and the endpoint.

    Raises:
        InvalidRequest: A field has no counterpart; the error names it.
    """
    _refuse_unanswerable(body)
    rest = {name: value for name, value in body.items() if value is not None}
    params = {name: rest.pop(name) for name in list(rest) if name in SAME_FIELDS}
    messages = _messages(rest.pop("input", None))
    if instructions := rest.pop("instructions", None):
        messages.insert(0, {"role": "system", "content": instructions})
    if limit := rest.pop("max_output_tokens", None):
        params["max_completion_tokens"] = limit
    text = _object("text", rest.pop("text", {}))
    if form := text.pop("format", None):
        inner = _object("text.format", form)
        kind = inner.pop("type", "text")
        if kind == "json_schema":
            params["response_format"] = {"type": kind, "json_schema": inner}
        elif kind != "text":
            params["response_format"] = {"type": kind}
    reasoning = _object("reasoning", rest.pop("reasoning", {}))
    for field, options, name in (
        ("text.verbosity", text, "verbosity"),
        ("reasoning.effort", reasoning, "reasoning_effort"),
    ):
        if (value := options.pop(field.rpartition(".")[2], None)) is not None:
            params[name] = value
    # qa leaves nothing at the provider, in either API.
    if rest.pop("store", False) not in (False, True) or rest.pop("background", False):
        raise InvalidRequest("its body requests an answer in the background.")
    rest.pop("stream", None)
    rest |= {f"text.{name}": value for name, value in text.items()}
    rest |= {f"reasoning.{name}": value for name, value in reasoning.items()}
    if rest:
        names = ", ".join(map(repr, rest))
        raise InvalidRequest(
            f"its body has fields that qa cannot send to {RESPONSES_URL}: {names}.",
            "Leave them out, or send the file to the provider's own Batch API.",
        )
    return _chat({**params, "messages": messages})


def _object(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"the field {name!r} of its body is not an object.")
    return dict(value)


def _messages(value: object) -> list[dict[str, Any]]:
    """Return the input of a Responses request as messages."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise InvalidRequest("its body has no input.")
    messages = []
    for item in value:
        if not isinstance(item, dict) or item.get("type", "message") != "message":
            kind = item.get("type") if isinstance(item, dict) else kind_of(item)
            raise InvalidRequest(f"an item of its input is no message: {kind}.")
        content = item.get("content")
        if isinstance(content, list):
            content = [_part(part) for part in content]
        messages.append({"role": item.get("role", "user"), "content": content})
    return messages


def _part(part: object) -> dict[str, Any]:
    """Return a part of a message by its names in Chat Completions."""
    fields = part if isinstance(part, dict) else {}
    kind = fields.get("type")
    if kind in PART_TYPES:
        return {"type": "text", "text": fields.get("text", "")}
    if kind == "input_image" and isinstance(fields.get("image_url"), str):
        detail = {"detail": fields["detail"]} if fields.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": fields["image_url"], **detail}}
    if kind == "input_file":
        inner = {name: value for name, value in fields.items() if name != "type"}
        return {"type": "file", "file": inner}
    raise InvalidRequest(f"a part of its input cannot be sent: {kind or kind_of(part)}.")

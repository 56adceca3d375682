"""The Chat Completions API: build its requests, and read its responses in all their dialects.

Any field of a response may be missing or of another type. Where endpoints differ, the comment
names the endpoint.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from qacli.cost import Usage
from qacli.domain import ChatRequest, ContextPart
from qacli.errors import BrokenAnswer
from qacli.provider.error_body import parse_error
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, ErrorInAnswer, TextEvent
from qacli.validation import parse_count, sanitize_text

PATH = "/chat/completions"

KNOWN_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})
KNOWN_CHOICE_FIELDS = frozenset({"index", "delta", "message", "finish_reason", "text", "error"})
KNOWN_MESSAGE_FIELDS = frozenset(
    {
        *("role", "content", "refusal", "name"),
        *("reasoning_content", "reasoning", "reasoning_details", "tool_calls"),
    }
)
MAX_TOOL_CALLS = 1000
MAX_CHOICES = 1000

SCHEMA_PROMPT = (
    "Answer with a JSON document and nothing else: no explanation, no Markdown. "
    "It must be valid for this JSON Schema:\n"
)
JSON_PROMPT = "Answer with a JSON document and nothing else: no explanation, no Markdown."


class ChatCompletions:
    """The Chat Completions API; see `qacli.provider.api.Api`."""

    path = PATH

    def build_body(
        self, request: ChatRequest, refused: frozenset[Feature] = frozenset(), *, official: bool
    ) -> dict[str, Any]:
        """Build the JSON body of a request. OpenAI's newer models refuse `max_tokens`."""
        question = request.question
        system = question.system
        params = dict(question.params)
        if Feature.RESPONSE_FORMAT in refused and (form := params.pop("response_format", None)):
            system = "\n\n".join(filter(None, (system, schema_prompt(form))))
        messages: list[dict[str, Any]] = []
        if system:
            messages.append({"role": "system", "content": system})
        for turn in request.turns:
            messages.append({"role": "user", "content": _content(turn.question, turn.parts)})
            messages.append({"role": "assistant", "content": turn.answer})
        messages.append({"role": "user", "content": _content(question.question, request.parts)})
        streams = request.stream and Feature.STREAM not in refused
        body: dict[str, Any] = {"messages": messages, **params, "stream": streams}
        if streams and Feature.STREAM_OPTIONS not in refused:
            body["stream_options"] = {"include_usage": True}
        prefers_new_name = official or Feature.MAX_TOKENS in refused
        if (
            prefers_new_name
            and "max_tokens" in body
            and Feature.MAX_COMPLETION_TOKENS not in refused
        ):
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    def read_document(self, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read a whole answer into the response; see `Api.read_document`."""
        return _read(document, response)

    def read_event(self, kind: str, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read an event of a stream into the response; see `Api.read_event`."""
        if kind == "error":
            raise ErrorInAnswer(parse_error(document))
        if kind != "message" and not (isinstance(document, dict) and "choices" in document):
            return []  # an event of another type, such as `ping`
        return _read(document, response)


def schema_prompt(response_format: object) -> str:
    """Return the text that asks for JSON, for an endpoint that has no `response_format`."""
    form = response_format if isinstance(response_format, dict) else {}
    wrapper = form.get("json_schema")
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    if schema is None:
        return JSON_PROMPT
    return SCHEMA_PROMPT + json.dumps(schema, ensure_ascii=False)


def _content(question: str, parts: Sequence[ContextPart]) -> str | list[dict[str, Any]]:
    """Return a user message's content: one text, which every endpoint takes, without images."""
    if all(part.image_url is None for part in parts):
        return "\n\n".join([*(part.text for part in parts), question])
    content: list[dict[str, Any]] = []
    for part in parts:
        content.append({"type": "text", "text": part.text})
        if part.image_url is not None:
            content.append({"type": "image_url", "image_url": {"url": part.image_url}})
    return [*content, {"type": "text", "text": question}]


def _read(document: object, response: ChatResponse) -> list[TextEvent]:
    if isinstance(document, list) and document and isinstance(document[0], dict):
        document = document[0]  # Gemini writes errors in a list
    if not isinstance(document, dict):
        raise BrokenAnswer(
            "The provider's answer is not an API's.",
            "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
            retryable=True,
        )
    # vLLM has written errors without a wrapper: {"object": "error", "message": ...}.
    if document.get("error") or document.get("object") == "error":
        raise ErrorInAnswer(parse_error(document))
    response.model = _text(document.get("model")) or response.model
    response.response_id = _text(document.get("id")) or response.response_id
    response.usage = read_usage(_usage_of(document)) or response.usage
    for name, value in document.items():
        if name not in KNOWN_FIELDS:
            response.add_detail(name, value)
    choices = document.get("choices")
    for index, other in _other_choices(choices):
        _read_choice(other, response.others.setdefault(index, ChatResponse()))
    choice = _own_choice(choices)
    return [] if choice is None else _read_choice(choice, response)


def _read_choice(choice: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    if isinstance(choice.get("error"), dict | str) and choice["error"]:
        raise ErrorInAnswer(parse_error(choice))  # OpenRouter
    response.finish_reason = _text(choice.get("finish_reason")) or response.finish_reason
    for name, value in choice.items():
        if name not in KNOWN_CHOICE_FIELDS:
            _add_choice_detail(response, name, value)
    part = choice.get("delta") or choice.get("message")
    if isinstance(part, dict):
        return _read_message(part, response)
    return response.add_content(choice.get("text"))  # of a completion


def _own_choice(choices: object) -> dict[str, Any] | None:
    """Return the choice with the index 0; some endpoints number none."""
    items = choices if isinstance(choices, list) else []
    return next(
        (item for item in items if isinstance(item, dict) and item.get("index", 0) in (0, None)),
        None,
    )


def _other_choices(choices: object) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the choices with a higher index, for a client that asked for several."""
    for item in choices if isinstance(choices, list) else []:
        index = item.get("index") if isinstance(item, dict) else None
        if isinstance(index, int) and 0 < index < MAX_CHOICES:
            yield index, item


def _add_choice_detail(response: ChatResponse, name: str, value: object) -> None:
    """Add a field of the choice; log probabilities come in pieces."""
    before = response.details.get(name)
    if isinstance(before, dict) and isinstance(value, dict):
        for key, item in value.items():
            earlier = before.get(key)
            if isinstance(earlier, list) and isinstance(item, list):
                value = {**value, key: [*earlier, *item]}
        value = {**before, **value}
    response.add_detail(name, value)


def _read_message(part: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    events = _read_reasoning(part, response)
    content = part.get("content")
    if isinstance(content, list):
        for item in content:
            events += _read_content_part(item, response)
    else:
        events += response.add_content(content)
    if refusal := response.add_text(part.get("refusal")):
        events += refusal
        response.add_detail("refusal", value=True)
    calls = part.get("tool_calls") or _as_list(part.get("function_call"))
    if isinstance(calls, list) and calls:
        _merge_tool_calls(response, calls)
    for name, value in part.items():
        if name not in KNOWN_MESSAGE_FIELDS:
            response.add_detail(name, value, join=True)
    return events


def _read_reasoning(part: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    """Read the reasoning of a message.

    DeepSeek, vLLM and Qwen name it `reasoning_content`; Groq, OpenRouter and Ollama `reasoning`.
    OpenRouter has the same text once more in `reasoning_details`, with encrypted parts.
    """
    details = [item for item in _as_list(part.get("reasoning_details")) if isinstance(item, dict)]
    for name in ("reasoning_content", "reasoning"):
        if isinstance(part.get(name), str) and part[name]:
            events = response.add_reasoning(part[name])
            break
    else:
        texts = (item.get("text") or item.get("summary") for item in details)
        events = [event for text in texts for event in response.add_reasoning(text)]
    opaque = [item for item in details if not (item.get("text") or item.get("summary"))]
    response.add_detail("reasoning_details", opaque, join=True)
    return events


def _read_content_part(item: object, response: ChatResponse) -> list[TextEvent]:
    if isinstance(item, str):
        return response.add_content(item)
    if not isinstance(item, dict):
        return []
    kind = item.get("type")
    if kind in {"text", "output_text", None}:
        text = item.get("text")
        response.add_detail("annotations", item.get("annotations"), join=True)
        return response.add_content(text.get("value") if isinstance(text, dict) else text)
    if kind == "refusal":
        return response.add_text(item.get("refusal"))
    if kind in {"thinking", "reasoning", "reasoning_text"}:
        return [
            event
            for text in _texts(item.get("thinking") or item.get("text") or item.get("reasoning"))
            for event in response.add_reasoning(text)
        ]
    response.add_detail("images" if kind == "image_url" else "content", [item], join=True)
    return []


def _texts(value: object) -> Iterable[object]:
    """Return the texts of a part: Mistral has a list of parts in a part, Anthropic a text."""
    for item in _as_list(value):
        yield item.get("text") if isinstance(item, dict) else item


def _merge_tool_calls(response: ChatResponse, calls: list[Any]) -> None:
    """Add the pieces of tool calls to `details`; the arguments of a call come in many."""
    merged = response.details.setdefault("tool_calls", [])
    for call in calls:
        if not isinstance(call, dict):
            continue
        function = call.get("function") if isinstance(call.get("function"), dict) else call
        place = call.get("index")
        if not isinstance(place, int) or not 0 <= place < MAX_TOOL_CALLS:
            place = len(merged)
        while len(merged) <= place:
            merged.append({"id": None, "function": {"name": "", "arguments": ""}})
        target = merged[place]
        target["id"] = _text(call.get("id")) or target["id"]
        for name in ("name", "arguments"):
            value = function.get(name) if isinstance(function, dict) else None
            if isinstance(value, dict):
                value = json.dumps(value, ensure_ascii=False)  # Ollama has sent objects
            target["function"][name] += _text(value) or ""


def _usage_of(document: dict[str, Any]) -> object:
    usage = document.get("usage")
    groq = document.get("x_groq")
    if not usage and isinstance(groq, dict):
        return groq.get("usage")
    return usage


def read_usage(usage: object) -> Usage | None:
    """Return the tokens of an answer, by the names of either API; None where there are none."""
    if not isinstance(usage, dict):
        return None
    prompt_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    completion_details = usage.get("completion_tokens_details") or usage.get(
        "output_tokens_details"
    )
    counts = Usage(
        prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        completion_tokens=_count(usage, "completion_tokens", "output_tokens"),
        # DeepSeek names it in its own way.
        cached_tokens=_count(prompt_details, "cached_tokens")
        or _count(usage, "cached_tokens", "prompt_cache_hit_tokens"),
        reasoning_tokens=_count(completion_details, "reasoning_tokens")
        or _count(usage, "reasoning_tokens"),
        cost_usd=_cost(usage.get("cost")),
    )
    return None if counts == Usage() else counts


def _count(fields: object, *names: str) -> int | None:
    if not isinstance(fields, dict):
        return None
    counts = (parse_count(fields.get(name)) for name in names)
    return next((count for count in counts if count is not None), None)


def _cost(value: object) -> float | None:
    """Return US dollars: a number for OpenRouter, an object for Perplexity."""
    if isinstance(value, dict):
        value = value.get("total_cost")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < float("inf") else None


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value else None

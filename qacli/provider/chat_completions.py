"""The Chat Completions API: build its requests, and read its responses in all their dialects.

Any field of a response may be missing or of another type. Where endpoints differ, the comment
names the endpoint.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from qacli.domain import ChatRequest, ContextPart
from qacli.errors import BrokenAnswer
from qacli.provider.chat_reasoning import REASONING_NAMES, read_reasoning
from qacli.provider.error_body import ErrorBody, find_error, is_error, parse_error
from qacli.provider.finish_reasons import finish_reason_of
from qacli.provider.json_values import as_dict, to_list
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, ErrorInAnswer, TextEvent
from qacli.provider.think_tags import ThinkTagSplitter
from qacli.provider.tool_call_pieces import add_tool_calls
from qacli.provider.usage import add_usage, usage_of
from qacli.validation import sanitize_text

PATH = "/chat/completions"

KNOWN_FIELDS = frozenset(
    {
        *("id", "object", "created", "model", "choices", "usage", "error"),
        "obfuscation",  # OpenAI's random letters, which hide the lengths of tokens
    }
)
KNOWN_CHOICE_FIELDS = frozenset(
    {"index", "delta", "message", "finish_reason", "finishReason", "text", "error", "usage"}
)
TEXT_PARTS = frozenset({"text", "output_text", "input_text", "text_delta", None})
"""The types of parts of the content that are the answer: gateways leave those of other APIs."""

REASONING_PARTS = ("thinking", "text", "reasoning", "summary")
"""The fields with the text of a part of the content that is reasoning."""

KNOWN_MESSAGE_FIELDS = frozenset(
    {
        *("role", "content", "refusal", "name", "audio", "function_call"),
        *(*REASONING_NAMES, "reasoning_details", "tool_calls"),
    }
)
SUCCESS_CODES = frozenset({None, "0", "200"})
"""The codes of an object without choices that is no error: iFlytek's Spark sends 0."""

MAX_CHOICES = 1000

AUDIO_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}
"""The API's names of the formats of a sound, by their media types."""

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
        """Build the JSON body of a request.

        For OpenAI itself, and if an endpoint has refused `max_tokens`, that option is sent as
        `max_completion_tokens`.
        """
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
        is_wanted = request.stream or Feature.WHOLE in refused
        streams = is_wanted and Feature.STREAM not in refused
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
        if isinstance(document, list) and document and isinstance(document[0], dict):
            document = document[0]  # Gemini writes errors in a list
        document = _unwrapped(document)
        if isinstance(document, dict) and document.get("choices") is None:
            if error := find_error(document):
                raise ErrorInAnswer(error)
        elif isinstance(document, dict):
            return _read(document, response)
        raise BrokenAnswer(
            "The provider's answer does not have the form of an API.",
            "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
            retryable=True,
        )

    def read_event(self, kind: str, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read an event of a stream into the response; see `Api.read_event`."""
        if isinstance(document, list) and document:
            document = document[0]
        document = _unwrapped(document)
        if kind == "error":
            raise ErrorInAnswer(parse_error(document))
        if not isinstance(document, dict):
            return []  # some gateways send `null` as a sign of life
        if kind != "message" and "choices" not in document:
            return []  # an event of another type, such as `ping`
        error = find_error(document) if document.get("choices") is None else None
        # An error without a wrapper: DashScope's and, without a code, DeepInfra's.
        if error is not None and (
            error.code not in SUCCESS_CODES or document.get("error_message") is not None
        ):
            raise ErrorInAnswer(error)
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
    """Return a user message's content; one text, which every endpoint takes, if it is all text."""
    if all(part.media_type is None for part in parts):
        return "\n\n".join([*(part.text for part in parts), question])
    content: list[dict[str, Any]] = []
    for part in parts:
        content.append({"type": "text", "text": part.text})
        if part.image_url is not None:
            content.append({"type": "image_url", "image_url": {"url": part.image_url}})
        elif part.file_url is not None:
            content.append(_file_part(part, part.file_url))
    return [*content, {"type": "text", "text": question}]


def _file_part(part: ContextPart, url: str) -> dict[str, Any]:
    """Return the part of a message for a PDF or a sound."""
    if part.media_type == "application/pdf":
        return {"type": "file", "file": {"filename": part.file_name, "file_data": url}}
    sound = {"data": url.partition(",")[2], "format": AUDIO_FORMATS[str(part.media_type)]}
    return {"type": "input_audio", "input_audio": sound}


def _read(document: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    # vLLM has written errors without a wrapper: {"object": "error", "message": ...}.
    error = document.get("error")
    # Some gateways write {"code": 0, "message": ""} for success.
    has_error = any(error.values()) if isinstance(error, dict) else bool(error)
    has_error = has_error or "error" in {document.get("object"), document.get("type")}
    if has_error and not document.get("choices"):
        raise ErrorInAnswer(parse_error(document))
    response.model = _text(document.get("model")) or response.model
    response.response_id = _text(document.get("id")) or response.response_id
    choice = _own_choice(document.get("choices"))
    add_usage(usage_of(document, choice), response)
    for name, value in document.items():
        if name not in KNOWN_FIELDS:
            response.add_detail(name, value)
    for index, other in _other_choices(document.get("choices")):
        _read_choice(other, response.others.setdefault(index, ChatResponse()))
    events = [] if choice is None else _read_choice(choice, response)
    # These errors come with a text, which was paid for: Groq and OpenRouter stop an answer
    # early, MiniMax filters it.
    if has_error:
        raise ErrorInAnswer(parse_error(document))
    for fields in (document.get("x_groq"), {"base_resp": document.get("base_resp")}, choice):
        if error := _error_beside(fields):
            raise ErrorInAnswer(error)
    return events


def _error_beside(fields: object) -> ErrorBody | None:
    """Return the error in an object that has other fields; None if there is none."""
    names = [name for name in ("error", "base_resp") if name in as_dict(fields)]
    values = {name: as_dict(fields)[name] for name in names}
    return find_error(values) if any(is_error(value) for value in values.values()) else None


def _read_choice(choice: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    # Gemini has sent `finishReason` in streams.
    native = choice.get("finish_reason") or choice.get("finishReason")
    reason = finish_reason_of(native)
    had_reason = response.finish_reason is not None
    if reason is not None:
        response.finish_reason = sanitize_text(reason)
        if reason != native:
            response.add_detail("native_finish_reason", native)
    for name, value in choice.items():
        if name not in KNOWN_CHOICE_FIELDS:
            _add_choice_detail(response, name, value)
    events = _read_part(choice, response)
    response.has_late_text = response.has_late_text or (had_reason and bool(events))
    response.ends_with_reason = not events and (reason is not None or response.ends_with_reason)
    return events


def _read_part(choice: dict[str, Any], response: ChatResponse) -> list[TextEvent]:
    delta, message = choice.get("delta"), choice.get("message")
    if isinstance(message, str):
        message = {"content": message}
    # Perplexity repeats the whole message with each piece; it is read if there is no piece.
    has_pieces = isinstance(delta, dict) and (bool(delta) or response.has_begun)
    response.is_in_pieces = response.is_in_pieces or has_pieces
    part = delta if has_pieces else message
    if isinstance(part, dict):
        if response.is_in_pieces and not has_pieces:  # MiniMax repeats it at the end
            part = {name: part[name] for name in part.keys() - KNOWN_MESSAGE_FIELDS}
        return _read_message(part, response)
    return response.add_content(choice.get("text"))  # of a completion


def _unwrapped(document: object) -> object:
    """Return the answer that a gateway has put into a field of its own document."""
    fields = as_dict(document)
    inner = (as_dict(fields.get(name)) for name in ("data", "result"))
    return document if "choices" in fields else next((d for d in inner if "choices" in d), document)


def _own_choice(choices: object) -> dict[str, Any] | None:
    """Return the choice with the index 0; some endpoints number none, or write no list."""
    items = [item for item in to_list(choices) if isinstance(item, dict)]
    return next((item for item in items if item.get("index") in (0, None, "0", -1)), None)


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
    events = read_reasoning(part, response)
    content = part.get("content")
    if isinstance(content, dict) and content and not content.keys() & {"type", "text"}:
        content = json.dumps(content, ensure_ascii=False)  # Cloudflare: the JSON of a schema
    if isinstance(content, list | dict):
        for item in to_list(content):
            events += _read_content_part(item, response)
    else:
        events += _add_text(content, response)
    if refusal := response.add_text(part.get("refusal")):
        events += refusal
        response.add_detail("refusal", value=True)
    events += _read_audio(part.get("audio"), response)
    # The older API has one call, whose pieces have no index.
    older = part.get("function_call")
    calls = part.get("tool_calls") or (
        {"index": 0, "function": older} if isinstance(older, dict) else None
    )
    if isinstance(calls, list | dict) and calls:
        add_tool_calls(response, to_list(calls))
    for name, value in part.items():
        if name not in KNOWN_MESSAGE_FIELDS:
            response.add_detail(name, value, join=True)
    return events


def _add_text(text: object, response: ChatResponse) -> list[TextEvent]:
    """Add a piece of the text, which may have all of the text so far."""
    if not isinstance(text, str) or not text:
        return []
    piece, before = response.cumulative.read(text)
    if before is not None:  # what was shown is wrong; the record is not
        response.texts.clear()
        response.think_tags = response.think_tags and ThinkTagSplitter()
        response.add_content(before)
    return response.add_content(piece)


def _read_audio(audio: object, response: ChatResponse) -> list[TextEvent]:
    """Keep the transcript of spoken words, which comes in pieces, as the answer."""
    if not isinstance(audio, dict):
        return []
    before = response.details.get("audio", {})
    data = "".join(text for part in (before, audio) if (text := _text(part.get("data"))))
    merged = {**before, **audio, "data": data}
    merged.pop("transcript", None)
    response.add_detail("audio", merged)
    return response.add_content(audio.get("transcript"))


def _read_content_part(item: object, response: ChatResponse) -> list[TextEvent]:
    if isinstance(item, str):
        return response.add_content(item)
    if not isinstance(item, dict):
        return []
    kind = item.get("type")
    if kind in TEXT_PARTS:
        text = item.get("text")
        response.add_detail("annotations", item.get("annotations"), join=True)
        return response.add_content(text.get("value") if isinstance(text, dict) else text)
    if kind == "refusal":
        return response.add_text(item.get("refusal"))
    if kind in {"thinking", "reasoning", "reasoning_text"}:
        return [
            event
            for text in _texts(
                next((item[name] for name in REASONING_PARTS if item.get(name)), None)
            )
            for event in response.add_reasoning(text)
        ]
    response.add_detail("images" if kind == "image_url" else "content", [item], join=True)
    return []


def _texts(value: object) -> Iterable[object]:
    """Return the texts of a part: Mistral has a list of parts in a part, Anthropic a text."""
    for item in to_list(value):
        yield item.get("text") if isinstance(item, dict) else item


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value else None

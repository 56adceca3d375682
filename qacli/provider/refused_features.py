"""Features that an endpoint refuses for a model: the request is sent again without them.

Only what qa adds by itself is left out. An option of the user, such as `--temperature`, is an
error that names the option. The refused features are kept in a file of the data directory, so that
no later process sends them again.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from qacli.private_files import write_private
from qacli.provider.error_body import ErrorBody

REFUSING_STATUS = frozenset({400, 404, 405, 415, 422, 501})
REFUSAL = (
    r"(?i)"
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|unavailable|extra(_| )"
    r"|not\s+(yet\s+|currently\s+)?(be\s+)?"
    r"(support|permit|allow|recogni[sz]|implement|available|compatible|enabled)"
    r"|does ?n[o']t support|must be verified|no longer support|supported values are"
    r"|(cannot|can't) be (used|set|combined)|不支持"
    r"|should not exist|(must|should) be (set to )?false"  # NestJS; a switch that cannot be on
)
STREAMS_ONLY = (
    r"(?i)"
    r"only supports? (the )?stream|non-?stream|stream.{0,3}(=|to) ?true"  # DashScope
    r"|stream(ing)?( mode)? (is|must be) (required|true|enabled|set to true)"
)
"""Messages to a request for an answer in one piece: of DashScope for Qwen's thinking models, and of
Anthropic for long answers."""

FORMAT_REFUSAL = (
    r"(?i)"
    r"response_format\W{0,3}type"  # Groq, LM Studio, FastAPI: the types that are allowed
    r"|(json[_ ]?schema|structured[_ ]outputs?)\W{0,2} (is|are) not (currently )?support"
    r"|not support (json[_ ]?schema|structured[_ ]outputs?)"
)
"""Messages for the type of `response_format`; those for a schema that is wrong have other words."""

API_CODES = frozenset({"OperationNotSupported", "unsupported_api_for_model"})
"""The codes of Azure and GitHub Copilot for a model that needs another API."""

RESPONSES_NAME = r"(?i)responses[ _-]?api|/responses\b"
CHAT_NAME = r"(?i)chat[/ ._]?completions?\b|\bchat model\b"
OTHER_API = r"(?i)only (be )?supported|not a chat model|please use"
NO_SUCH_PATH = frozenset({404, 405, 501})
FILE_NAME = "endpoints.json"


class Feature(StrEnum):
    """An API or a parameter that some endpoints refuse, in the order in which it is found."""

    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    STREAM_OPTIONS = "stream_options"
    STREAM = "stream"
    WHOLE = "whole"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"
    MAX_TOKENS = "max_tokens"
    RESPONSE_FORMAT = "response_format"
    BASE_URL = "base_url"
    REASONING_SUMMARY = "reasoning_summary"
    INCLUDE = "include"
    PREVIOUS_RESPONSE_ID = "previous_response_id"


EVERY_MODEL = "*"
"""The name for all models of an endpoint; used for `BASE_URL`."""

MEANINGS: Mapping[Feature, str] = {
    Feature.STREAM_OPTIONS: "does not take stream_options: the usage may be unknown",
    Feature.STREAM: "does not stream: answers come in one piece",
    Feature.WHOLE: "does not answer in one piece: its answers are streamed",
    Feature.MAX_COMPLETION_TOKENS: "takes max_tokens only",
    Feature.MAX_TOKENS: "takes max_completion_tokens only",
    Feature.RESPONSE_FORMAT: "does not take response_format: the schema is sent in the prompt",
    Feature.CHAT_COMPLETIONS: "needs the Responses API, which is used from now on",
    Feature.RESPONSES: "has no Responses API: Chat Completions is used from now on",
    Feature.REASONING_SUMMARY: "sends no summary of its reasoning",
    Feature.INCLUDE: "does not take include: the sources of a search may be unknown",
}
"""The sentence for the user about each feature, after the name of the model."""

PLACES: Mapping[Feature, tuple[str, ...]] = {
    Feature.RESPONSE_FORMAT: ("response_format", "text.format"),
    Feature.REASONING_SUMMARY: ("reasoning.summary",),
}
"""The places of a feature in the body of a request, if they are not its name."""


def refused_feature(status: int, error: ErrorBody, body: Mapping[str, Any]) -> Feature | None:
    """Return the feature that a response refuses; None if it refuses something else.

    Args:
        status: The HTTP status of the response.
        error: The error in it.
        body: The request; only its own fields can be refused.
    """
    if status not in REFUSING_STATUS:
        return None
    text = " ".join(filter(None, (error.code, error.type, error.message)))
    if body.get("stream") is False and re.search(STREAMS_ONLY, text):
        return Feature.WHOLE
    is_refusal = bool(re.search(REFUSAL, text))
    sent = [(feature, place) for feature in Feature for place in _sent_places(feature, body)]
    for feature, place in sent:
        pattern = re.escape(place) + r"\b"
        if error.param is not None:
            is_refused = re.match(pattern, error.param) is not None
        else:
            in_text = r"\b" + pattern if place != feature else _name_in_text(feature)
            is_refused = re.search(in_text, text) is not None
        if feature is Feature.RESPONSE_FORMAT and re.search(FORMAT_REFUSAL, text):
            return feature
        if is_refused and (is_refusal or _needs_no_words(feature, error, text)):
            return feature
    return None


def _needs_no_words(feature: Feature, error: ErrorBody, text: str) -> bool:
    """Return whether a message refuses a feature if it only names the feature.

    No user sets `stream_options`; `stream` is a switch; and a message with both names of the limit
    of tokens requires the other one.
    """
    both = (Feature.MAX_COMPLETION_TOKENS, Feature.MAX_TOKENS)
    return (
        feature is Feature.STREAM_OPTIONS
        or (feature is Feature.STREAM and error.param == feature)
        or (feature in both and all(re.search(_name_in_text(name), text) for name in both))
    )


def _name_in_text(feature: Feature) -> str:
    """Return the pattern of a feature's name in a sentence.

    Groq writes "response format", Bedrock "streaming", and some gateways "MaxTokens".
    """
    if feature == Feature.STREAM:
        return r"(?i)\bstream(ing)?\b"
    return rf"(?i)\b{feature.replace('_', '[_ ]?')}\b"


def _sent_places(feature: Feature, body: Mapping[str, Any]) -> list[str]:
    def value(place: str) -> object:
        item: object = body
        for name in place.split("."):
            item = item.get(name) if isinstance(item, Mapping) else None
        return item

    return [place for place in PLACES.get(feature, (feature,)) if value(place)]


def refuses_api(api: Feature, status: int, error: ErrorBody) -> bool:
    """Return whether a response says that the model, or the endpoint, needs the other API.

    Args:
        api: The API that was asked: `Feature.CHAT_COMPLETIONS` or `Feature.RESPONSES`.
        status: The HTTP status of the response.
        error: The error in it.
    """
    if status not in REFUSING_STATUS:
        return False
    if error.code in API_CODES:
        return True
    is_refusal = bool(re.search(REFUSAL, error.message) or re.search(OTHER_API, error.message))
    if api is Feature.CHAT_COMPLETIONS:
        return is_refusal and re.search(CHAT_NAME, error.message) is not None
    # "Unsupported parameter: 'x'. In the Responses API, it is ..." is about the parameter.
    if error.param not in {None, "model"}:
        return False
    if is_refusal and re.search(RESPONSES_NAME, error.message):
        return True
    is_about_model = re.search(r"model|deployment", f"{error.code} {error.message}", re.IGNORECASE)
    return status in NO_SUCH_PATH and not is_about_model


class RefusedFeatures:
    """The refused features of all endpoints and models.

    Args:
        directory: The data directory; None keeps nothing between processes.
    """

    def __init__(self, directory: Path | None) -> None:
        self._file = None if directory is None else directory / FILE_NAME
        self._table: dict[str, dict[str, list[str]]] | None = None

    def get(self, base_url: str, model: str) -> frozenset[Feature]:
        """Return the features that this endpoint refuses for this model."""
        if self._table is None:
            self._table = self._read()
        names = self._table.get(base_url, {}).get(model, [])
        return frozenset(Feature(name) for name in names if name in set(Feature))

    def add(self, base_url: str, model: str, features: frozenset[Feature]) -> None:
        """Add features. If the file cannot be written, a later process sends one more request."""
        table = self._read()
        names = set(table.setdefault(base_url, {}).get(model, [])) | features
        table[base_url][model] = sorted(names)
        self._table = table
        if self._file is not None:
            with suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_private(self._file, json.dumps(table, indent=1).encode())

    def _read(self) -> dict[str, dict[str, list[str]]]:
        if self._file is None:
            return self._table or {}
        try:
            table = json.loads(self._file.read_bytes())
            return {
                str(base_url): {str(model): [*map(str, names)] for model, names in models.items()}
                for base_url, models in table.items()
            }
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return self._table or {}

"""The differences between Chat Completions and Responses, and the choice of one of them."""

from collections.abc import Mapping
from typing import Any, Protocol

from qacli.domain import ChatRequest
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, TextEvent
from qacli.tools import RUN_BY_CLIENTS

CHAT_ONLY = frozenset(
    {
        *("audio", "frequency_penalty", "functions", "function_call", "logit_bias", "modalities"),
        *("n", "prediction", "presence_penalty", "seed", "stop", "web_search_options"),
    }
)
"""The parameters of Chat Completions that the Responses API does not have."""


class Api(Protocol):
    """Builds a request of an API and reads its response; each request has an object of its own."""

    path: str
    """The path below the base URL."""

    def build_body(
        self, request: ChatRequest, refused: frozenset[Feature], *, official: bool
    ) -> dict[str, Any]:
        """Build the JSON body of a request.

        Args:
            request: The request.
            refused: The features that the endpoint does not take.
            official: The request goes to OpenAI itself.
        """

    def read_document(self, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read a whole answer into the response; return the events of its text.

        Raises:
            BrokenAnswer: The document is not an answer of this API.
            ErrorInAnswer: The document is an error.
        """

    def read_event(self, kind: str, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read an event of a stream into the response; return the events of its text.

        Args:
            kind: The type of the event; `message` where the stream names none.
            document: Its data, as JSON.
            response: The answer as far as it has arrived.

        Raises:
            BrokenAnswer: See `read_document`.
            ErrorInAnswer: See `read_document`.
        """


def choose_api(
    setting: str, params: Mapping[str, Any], refused: frozenset[Feature], *, official: bool
) -> Feature:
    """Return the API for a request: `Feature.CHAT_COMPLETIONS` or `Feature.RESPONSES`.

    Args:
        setting: `chat`, `responses`, or `auto`: Responses for OpenAI itself, Chat Completions
            elsewhere, and the other one if that is refused.
        params: The parameters of the request.
        refused: The features that the endpoint does not take.
        official: The request goes to OpenAI itself.
    """
    if setting != "auto":
        return Feature.CHAT_COMPLETIONS if setting == "chat" else Feature.RESPONSES
    if needs_responses(params):
        return Feature.RESPONSES
    if official and not CHAT_ONLY & params.keys():
        first, second = Feature.RESPONSES, Feature.CHAT_COMPLETIONS
    else:
        first, second = Feature.CHAT_COMPLETIONS, Feature.RESPONSES
    return second if first in refused else first


def needs_responses(params: Mapping[str, Any]) -> bool:
    """Return whether Chat Completions cannot take a request: it has no built-in tools."""
    tools = params.get("tools")
    kinds = [
        tool.get("type")
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, dict)
    ]
    return any(kind not in RUN_BY_CLIENTS for kind in kinds)

"""The two parts of an API that differ between Chat Completions and Responses."""

from typing import Any, Protocol

from qacli.domain import ChatRequest
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, TextEvent


class Api(Protocol):
    """Builds the requests of an API and reads its responses."""

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
            BrokenAnswer: It is not an answer of this API.
            ErrorInAnswer: It is an error.
        """

    def read_event(self, kind: str, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read an event of a stream into the response; return the events of its text.

        Args:
            kind: The type of the event; `message` where the stream names none.
            document: Its data, as JSON.
            response: The answer as far as it has arrived.

        Raises:
            BrokenAnswer: As `read_document`.
            ErrorInAnswer: As `read_document`.
        """

"""A request of a client that the provider gets as it is, and the parts of its response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """A client's request, which the provider gets unchanged.

    Attributes:
        path: The path below the base URL, such as `/chat/completions`.
        body: The bytes of the body; empty for none.
        headers: The headers that go along, without those of the key.
        query: The query string, without its question mark.
        is_streamed: The client requests a stream of events.
        model: The model that is asked; empty if it is not known.
        uid: The uid of the question; a translated response has ids made of it.
        created: The time of the question, in seconds since 1970.
        history: The body with the whole conversation instead of the id of the previous response;
            empty if the database does not have that response, or the body has no such id.
        needs_history: The provider does not have the previous response, so it gets `history`.
        kept_by: The name of the endpoint that sent the previous response a short time ago, and so
            must still have it; empty if there is no such endpoint.
    """

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    is_streamed: bool = False
    model: str = ""
    uid: str = ""
    created: int = 0
    history: bytes = b""
    needs_history: bool = False
    kept_by: str = ""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The provider's response to a raw request has begun.

    Attributes:
        status: Its HTTP status.
        headers: Its headers, without those of the connection.
    """

    status: int
    headers: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ResponseBytes:
    """A piece of the response to a raw request has arrived.

    Attributes:
        is_last: The end mark of a stream is in it, so that the answer is complete.
    """

    data: bytes
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class ResponseEnd:
    """The response to a raw request has arrived as the provider sent it, to its end."""


RelayEvent = ResponseHead | ResponseBytes | ResponseEnd
"""A part of the provider's response to a raw request."""

"""A gate before the provider: the limits of a server that shares them with other processes."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from qacli.provider.response import ChatResponse

if TYPE_CHECKING:
    from qacli.domain import ChatRequest
    from qacli.raw_request import RawRequest


class Gate(Protocol):
    """Limits the requests for answers."""

    def open(
        self, request: "ChatRequest | RawRequest", response: ChatResponse, deadline: float
    ) -> AbstractAsyncContextManager[None]:
        """Wait until a request may be sent; the block sends it.

        Args:
            request: The request.
            response: Filled in by the block; it has the headers and the used tokens.
            deadline: The time of the event loop's clock by which the answer must be complete.

        Raises:
            SharedLimitReached: The request may not be sent in time.
        """


class NoGate:
    """Lets all requests pass."""

    def open(
        self,
        request: "ChatRequest | RawRequest",  # noqa: ARG002 - the protocol's, as the next two
        response: ChatResponse,  # noqa: ARG002
        deadline: float,  # noqa: ARG002
    ) -> AbstractAsyncContextManager[None]:
        """Do not wait."""
        return nullcontext()

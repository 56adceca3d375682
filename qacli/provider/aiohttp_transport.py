"""The transport of aiohttp for many requests at once, as the openai package has it.

That one leaves two things open: aiohttp's own error for a response that is no valid HTTP, and
headers of more than 8 KiB, which gateways send in their content security policy and their notes on
the cost (the other HTTP client takes 100 KiB in all).
"""

import aiohttp
import httpx2
from openai._vendor.httpx_aiohttp.transport import AiohttpTransport

MAX_HEADER_BYTES = 100 * 1024
"""The longest header of a response."""


class Transport(AiohttpTransport):
    """Sends requests with aiohttp; its errors are those of httpx2."""

    def get_client(self) -> aiohttp.ClientSession:
        """Return the session of all requests."""
        connector = aiohttp.TCPConnector(
            keepalive_timeout=self.limits.keepalive_expiry or aiohttp.helpers.sentinel,
            ssl=self.ssl_context,
            limit=self.limits.max_connections or 0,
        )
        return aiohttp.ClientSession(connector=connector, max_field_size=MAX_HEADER_BYTES)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            httpx2.HTTPError: The request failed, or its response is no valid HTTP.
        """
        try:
            return await super().handle_async_request(request)
        except aiohttp.ClientError as error:
            reason = error.message if isinstance(error, aiohttp.ClientResponseError) else error
            message = f"the response is no valid HTTP: {reason}"
            raise httpx2.RemoteProtocolError(message, request=request) from None

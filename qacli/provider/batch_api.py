"""The Batch API of a provider: its files and its batches.

OpenAI's reference is at https://platform.openai.com/docs/api-reference/batch; Azure, Groq, vLLM
based services and gateways have the same paths.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Self
from urllib.parse import quote

import httpx2
import openai

from qacli.config.settings import Settings
from qacli.errors import BrokenAnswer, ProviderError
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_mapping import ErrorMapper
from qacli.provider.response import ErrorInAnswer
from qacli.provider.retry_after import retry_after
from qacli.provider.transport import StatusError, follow_redirects, limited_bytes

UPLOAD_TIMEOUT = 3600.0
"""Seconds for the upload of a file, and for the time between two pieces of a download."""

MAX_LIST_PAGES = 20
PAGE = 100

FULL_QUEUE = frozenset({"token_limit_exceeded", "too_many_tasks", "batch_limit_exceeded"})
"""Codes of OpenAI and Azure: the queue has no room for the file."""

FULL_QUEUE_MESSAGE = re.compile(r"\benqueued (tokens?|requests?)\b", re.IGNORECASE)
"""OpenAI: "Enqueued token limit reached for ..."; Azure: "The number of enqueued tokens ..."."""

FILE_MESSAGE = re.compile(r"\bfile\b", re.IGNORECASE)

RUNNING = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
ENDED = frozenset({"completed", "expired", "cancelled", "canceled", "failed"})

HANDLED = (
    *(openai.OpenAIError, httpx2.HTTPError, OSError, ValueError, RecursionError),
    *(ErrorInAnswer, ProviderError),
)


@dataclass(frozen=True, slots=True)
class RemoteError:
    """An error of a whole batch.

    Attributes:
        code: The provider's code for it.
        message: The provider's message.
        line: The number of a line of the input file, from 1; None if it is about no single line.
    """

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the provider describes it.

    Attributes:
        id: Its id.
        status: Its status in lower case, such as `in_progress`.
        input_file_id: The id of the file of requests.
        output_file_id: The id of the file of answers; None without one.
        error_file_id: The id of the file of errors; None without one.
        completed: The number of answered requests; None if it is unknown.
        failed: The number of failed requests; None if it is unknown.
        errors: The errors of a batch that has failed as a whole.
        metadata: The values that were sent with the batch; gateways drop them.
    """

    id: str
    status: str
    input_file_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    completed: int | None
    failed: int | None
    errors: tuple[RemoteError, ...]
    metadata: Mapping[str, Any]

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return a batch from JSON.

        Raises:
            BrokenAnswer: The document is not a batch.
        """
        fields = value if isinstance(value, dict) else {}
        if isinstance(fields.get("job"), dict):  # Together, when it creates one
            fields = fields["job"]
        if not isinstance(fields.get("id"), str) or not isinstance(fields.get("status"), str):
            raise BrokenAnswer(
                "The provider's answer does not describe a batch.",
                "Check that the provider has OpenAI's Batch API.",
                retryable=True,
            )
        counts = _dict(fields.get("request_counts"))
        return cls(
            fields["id"],
            fields["status"].lower(),
            _text(fields.get("input_file_id")),
            _text(fields.get("output_file_id")),
            _text(fields.get("error_file_id")),
            _count(counts.get("completed")),
            _count(counts.get("failed")),
            _errors(fields.get("errors")),
            _dict(fields.get("metadata")),
        )

    @property
    def is_ended(self) -> bool:
        """True if the provider answers no more requests of the batch."""
        return self.status in ENDED

    @property
    def is_refused_as_full(self) -> bool:
        """True if the batch has failed because the provider's queue had no room."""
        return self.status == "failed" and any(
            error.code in FULL_QUEUE or FULL_QUEUE_MESSAGE.search(error.message)
            for error in self.errors
        )


class BatchApi:
    """The Batch API of an endpoint.

    Args:
        http: The client; its hook raises a `StatusError` for a response without success.
        endpoint: The provider.
        settings: The time limits.
        errors: Maps errors in a response.
        find_path: Sends a request to a path; see `qacli.provider.relay.Relay`.

    Attributes:
        retry_after: The seconds to wait that the last response asked for; None without any.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        endpoint: Endpoint,
        settings: Settings,
        errors: ErrorMapper,
        find_path: Callable[
            [str, Callable[[str], Awaitable[httpx2.Response]]], Awaitable[httpx2.Response]
        ],
    ) -> None:
        self._http = http
        self._endpoint = endpoint
        self._settings = settings
        self._errors = errors
        self._find_path = find_path
        self.retry_after: float | None = None

    async def upload(self, name: str, file: IO[bytes]) -> str:
        """Upload a file of requests; return its id.

        Raises:
            ProviderError: The file was refused, or it is unknown whether it has arrived.
        """
        value = await self._json(
            "POST",
            "/files",
            timeout=UPLOAD_TIMEOUT,
            data={"purpose": "batch"},
            files={"file": (name, file, "application/jsonl")},
        )
        file_id = _text(_dict(value).get("id"))
        if file_id is None:
            raise BrokenAnswer("The provider has not returned the id of a file.", retryable=True)
        return file_id

    async def find_file(self, name: str) -> str | None:
        """Return the id of the newest file of this name; None if there is none.

        Raises:
            ProviderError: The files cannot be listed.
        """
        async for item in self._pages("/files", {"purpose": "batch", "order": "desc"}):
            if item.get("filename") == name:
                return _text(item.get("id"))
        return None

    async def create(
        self, file_id: str, *, path: str, window: str, metadata: Mapping[str, str]
    ) -> RemoteBatch:
        """Create a batch for a file.

        Raises:
            ProviderError: The batch was refused, or it is unknown whether it was created.
        """
        body = {
            "input_file_id": file_id,
            "endpoint": path,
            "completion_window": window,
            "metadata": dict(metadata),
        }
        return RemoteBatch.parse(await self._json("POST", "/batches", json=body))

    async def find_batch(
        self, matches: Callable[[RemoteBatch], bool], *, created_after: float
    ) -> RemoteBatch | None:
        """Return the newest batch for which a function returns true; None if there is none.

        Args:
            matches: The function.
            created_after: Older batches need not be looked at, in seconds since 1970.

        Raises:
            ProviderError: The batches cannot be listed.
        """
        async for item in self._pages("/batches", {}):
            try:
                batch = RemoteBatch.parse(item)
            except BrokenAnswer:
                continue
            if matches(batch):
                return batch
            created_at = item.get("created_at")
            if isinstance(created_at, int) and 0 < created_at < created_after:
                return None
        return None

    async def get(self, batch_id: str) -> RemoteBatch:
        """Return a batch.

        Raises:
            ProviderError: The batch cannot be read.
        """
        return RemoteBatch.parse(await self._json("GET", f"/batches/{quote(batch_id, safe='')}"))

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch; its answers so far can still be read.

        Raises:
            ProviderError: The batch cannot be cancelled, for example because it has ended.
        """
        await self._json("POST", f"/batches/{quote(batch_id, safe='')}/cancel", json={})

    async def content(self, file_id: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a file, of any size.

        Raises:
            ProviderError: The file cannot be read, or the connection broke.
        """
        path = f"/files/{quote(file_id, safe='')}/content"
        async with self._mapped_errors(None):
            response = await self._send("GET", path)
            try:
                chunks = response.aiter_bytes().__aiter__()
                while True:
                    async with asyncio.timeout(self._settings.timeout):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    yield chunk
            finally:
                await response.aclose()

    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that does not exist any more is no error.

        Raises:
            ProviderError: The file cannot be deleted now.
        """
        try:
            await self._json("DELETE", f"/files/{quote(file_id, safe='')}")
        except ProviderError as error:
            if error.retryable or error.fatal:
                raise

    async def _pages(self, path: str, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a list, newest first, page by page."""
        after: str | None = None
        for _ in range(MAX_LIST_PAGES):
            params = {**query, "limit": str(PAGE)}
            params |= {"after": after} if after else {}
            text = "&".join(f"{name}={quote(value, safe='')}" for name, value in params.items())
            page = _dict(await self._json("GET", f"{path}?{text}"))
            data = page.get("data")
            items = [item for item in (data if isinstance(data, list) else []) if item]
            for item in items:
                if isinstance(item, dict):
                    yield item
            last = _dict(items[-1]).get("id") if items else None
            if page.get("has_more") is not True or not isinstance(last, str) or last == after:
                return
            after = last

    async def _json(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - also the name in the settings
        **content: Any,  # noqa: ANN401 - as the HTTP client takes it
    ) -> Any:  # noqa: ANN401 - any JSON
        async with self._mapped_errors(timeout or self._settings.timeout):
            response = await self._send(method, path, **content)
            try:
                text = b"".join([chunk async for chunk in limited_bytes(response)])
            finally:
                await response.aclose()
            return json.loads(text) if text.strip() else None

    async def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:  # noqa: ANN401
        async def send(url: str) -> httpx2.Response:
            target = self._endpoint.url(url) if url.startswith("/") else url
            for _name, file, _type in content.get("files", {}).values():
                file.seek(0)
            request = self._http.build_request(
                method, target, headers=self._endpoint.headers, **content
            )
            return await self._http.send(request, stream=True)

        response = await self._find_path(
            path, lambda url: follow_redirects(url, send, self._errors.redirected)
        )
        self.retry_after = retry_after(response.headers)
        return response

    @asynccontextmanager
    async def _mapped_errors(self, seconds: float | None) -> AsyncIterator[None]:
        self.retry_after = None
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise self._errors.total_timeout() from error
        except HANDLED as error:
            mapped = self._errors.map_error(error)
            self.retry_after = mapped.retry_after
            if isinstance(error, StatusError) and self.retry_after is None:
                self.retry_after = retry_after(error.headers)
            raise mapped from error


def is_full_queue(error: ProviderError) -> bool:
    """Return whether a batch was refused because the provider's queue has no room for it."""
    return str(error.details.get("code")) in FULL_QUEUE or bool(
        FULL_QUEUE_MESSAGE.search(error.what)
    )


def is_file_missing(error: ProviderError) -> bool:
    """Return whether a request was refused because of a file that is not visible yet."""
    statuses = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
    return error.provider_status in statuses and bool(FILE_MESSAGE.search(error.what))


def is_missing(error: ProviderError) -> bool:
    """Return whether the file or the batch does not exist, or belongs to another project."""
    return error.provider_status == HTTPStatus.NOT_FOUND


def _errors(value: object) -> tuple[RemoteError, ...]:
    """Return the errors of a batch: OpenAI has a list in an object, others a list or texts."""
    items = value.get("data") if isinstance(value, dict) else value
    errors = []
    for item in items if isinstance(items, list) else [items] if items else []:
        fields = item if isinstance(item, dict) else {"message": str(item)}
        line = fields.get("line")
        errors.append(
            RemoteError(
                str(fields.get("code") or ""),
                str(fields.get("message") or ""),
                line if isinstance(line, int) and line > 0 else None,
            )
        )
    return tuple(errors)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    """Return a text; None for an empty one: Azure has an empty `error_file_id`."""
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

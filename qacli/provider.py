"""The OpenAI wrapper: the only code that imports openai.

It asks Chat Completions, streaming or not, and hands the text on as it arrives. The package's
own defaults (600 seconds, two silent retries) are switched off: an answer has one deadline with
retries and body included, retries happen only while nothing has been shown yet, and everything
that is not a usable answer (empty, cut off, not JSON, a proxy's page) is an error with a reason.
"""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from random import random
from typing import TYPE_CHECKING, Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from qacli.config import OPENAI_BASE_URL, Settings
from qacli.endpoint import Endpoint
from qacli.errors import (
    BrokenAnswer,
    KeyRejected,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnreachable,
)
from qacli.exchange import Ask, storable, whole

if TYPE_CHECKING:
    import httpx2

RETRYABLE_STATUS = {408, 409, 429}
"""With 5xx, what the OpenAI API documents as worth asking again; other 4xx never are."""

LONGEST_BACKOFF = 20.0
MESSAGE_LENGTH = 500


@dataclass(slots=True)
class Reply:
    """What has come back so far; filled in while the answer arrives."""

    texts: list[str] = field(default_factory=list)
    model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def text(self) -> str:
        """The answer as far as it has arrived."""
        return "".join(self.texts)


@dataclass(frozen=True, slots=True)
class Retry:
    """Said before a question is asked again.

    Attributes:
        error: Why.
        delay: Seconds until then.
        attempt: How often it has been asked so far.
    """

    error: ProviderError
    delay: float
    attempt: int


class Provider:
    """A provider, ready to be asked by any number of threads.

    Args:
        endpoint: Where it is.
        settings: The time limits and the number of retries.
        on_retry: Told before a question is asked again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        on_retry: Callable[[Retry], None] = lambda _retry: None,
    ) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._on_retry = on_retry
        self._alarms = Alarms()
        self._call = threading.local()
        self._client = openai.OpenAI(
            api_key=endpoint.key or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                limits=openai.DEFAULT_CONNECTION_LIMITS,
                event_hooks={"response": [self._response_began]},
            ),
        )

    def stream(self, ask: Ask, reply: Reply, *, whole_answer: bool = False) -> Iterator[str]:
        """Ask, and give the text as it arrives.

        Args:
            ask: The question.
            reply: Filled in on the way, so that a cut answer leaves what had arrived.
            whole_answer: Ask for the answer in one piece instead of a stream.

        Raises:
            ProviderError: There is no usable answer; the leaves of the class say why.
        """
        deadline = time.monotonic() + self._settings.timeout
        attempt = 0
        while True:
            attempt += 1
            try:
                yield from self._attempt(ask, reply, deadline, whole_answer=whole_answer)
            except ProviderError as error:
                delay = backoff(attempt, error.retry_after)
                if (
                    not error.retryable
                    or reply.texts
                    or attempt > self._settings.retries
                    or time.monotonic() + delay >= deadline
                ):
                    raise
                self._on_retry(Retry(error, delay, attempt))
                time.sleep(delay)
            else:
                return

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _attempt(
        self, ask: Ask, reply: Reply, deadline: float, *, whole_answer: bool
    ) -> Iterator[str]:
        remaining = max(deadline - time.monotonic(), 0.001)
        self._call.deadline = deadline
        self._call.disarm = lambda: None
        arguments = _arguments(ask, official=self.endpoint.base_url == OPENAI_BASE_URL)
        if not self.endpoint.key:
            # The package insists on a key; an endpoint that needs none is not sent one.
            arguments["extra_headers"] = {"Authorization": openai.omit}
        arguments["timeout"] = openai.Timeout(
            min(self._settings.first_token_timeout, remaining),
            connect=min(self._settings.connect_timeout, remaining),
        )
        try:
            with self._explained(deadline):
                if whole_answer:
                    answer = self._client.chat.completions.create(stream=False, **arguments)
                    yield from _whole(answer, reply)
                else:
                    chunks = self._client.chat.completions.create(
                        stream=True, stream_options={"include_usage": True}, **arguments
                    )
                    with chunks:
                        yield from _streamed(chunks, reply)
                _refuse_blank(reply)
        finally:
            self._call.disarm()

    def _response_began(self, response: "httpx2.Response") -> None:
        """From here on, bytes could trickle in for ever: end that at the deadline."""
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None:
            self._call.disarm = self._alarms.at(self._call.deadline, lambda: _shut_down(connection))

    @contextmanager
    def _explained(self, deadline: float) -> Iterator[None]:
        """Turn what the package raises into our own kinds."""
        try:
            yield
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except openai.OpenAIError as error:
            if isinstance(error, openai.APITimeoutError) or time.monotonic() >= deadline:
                raise self._timed_out(deadline) from error
            if isinstance(error, openai.APIConnectionError):
                raise self._unreachable(error) from error
            # An error object inside a stream that had begun with 200.
            raise ProviderUnavailable(
                f"The provider broke off with an error: {self._message(error)}.",
                "Ask again.",
                retryable=True,
            ) from error
        except ValueError as error:
            if time.monotonic() >= deadline:
                raise self._timed_out(deadline) from error
            raise BrokenAnswer(
                "The provider's answer is not JSON.",
                "See that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
                retryable=True,
            ) from error

    def _timed_out(self, deadline: float) -> ProviderTimeout:
        if time.monotonic() >= deadline:
            limit, name = self._settings.timeout, "--timeout or QA_TIMEOUT"
        else:
            limit, name = self._settings.first_token_timeout, "QA_FIRST_TOKEN_TIMEOUT"
        return ProviderTimeout(
            f"The provider did not answer within {limit:g} s.",
            f"Ask again, or allow more time with {name}.",
            retryable=True,
        )

    def _unreachable(self, error: openai.APIConnectionError) -> ProviderUnreachable:
        reason = self._message(error.__cause__ or error)
        return ProviderUnreachable(
            f"The connection to {self.endpoint.base_url} failed: {reason}.",
            "See that the address is right and the network is up, then ask again.",
            retryable=True,
        )

    def _refused(self, error: openai.APIStatusError) -> ProviderError:
        status = error.status_code
        said = f"The provider answered {status}: {self._message(error)}."
        retry_after = _retry_after(error.response.headers)
        code = error.code or error.type
        if status == 401:  # noqa: PLR2004 - HTTP's own number, as below
            return KeyRejected(
                said, "Set OPENAI_API_KEY to a key that this endpoint accepts.", provider_status=401
            )
        if code == "insufficient_quota":
            return ProviderRefused(
                said, "Add credit to the account, or use another key.", provider_status=status
            )
        if status in RETRYABLE_STATUS or status >= 500:  # noqa: PLR2004
            return ProviderUnavailable(
                said,
                "Ask again later.",
                provider_status=status,
                retry_after=retry_after,
                retryable=True,
            )
        todo = "Change the question or the options as it says."
        if status == 404:  # noqa: PLR2004
            todo = (
                f"See that {self.endpoint.base_url} serves the model {self.endpoint.model}, "
                "or name another with --model or QA_MODEL."
            )
        return ProviderRefused(said, todo, provider_status=status)

    def _message(self, error: BaseException) -> str:
        """The provider's own words, in one line, without the key."""
        body = getattr(error, "body", None)
        text = str(body.get("message") or body) if isinstance(body, dict) else ""
        text = text or (body if isinstance(body, str) else "") or str(error)
        if page := re.match(r"\s*<(!doctype|html|head|\?xml)", text, re.IGNORECASE):
            title = re.search(r"<title>([^<]*)", text, re.IGNORECASE)
            named = f" titled {title[1].strip()!r}" if title and page else ""
            return f"a web page{named} instead of an API's answer"
        text = " ".join(self._settings.redact(text).split()).rstrip(".")
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "***")
        short = text[:MESSAGE_LENGTH] + ("…" if len(text) > MESSAGE_LENGTH else "")
        return short or type(error).__name__


class Alarms:
    """Calls to be made at given moments, all from one thread that starts with the first."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def at(self, moment: float, call: Callable[[], None]) -> Callable[[], None]:
        """Make the call at a moment of `time.monotonic`, unless what this returns is called."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="qa-deadlines", daemon=True
                ).start()
        loop, waiting = self._loop, True
        handle: list[asyncio.TimerHandle] = []

        def ring() -> None:
            if waiting:
                call()

        def arm() -> None:
            handle.append(loop.call_later(max(moment - time.monotonic(), 0), ring))

        def cancel() -> None:
            handle[0].cancel()

        def disarm() -> None:
            nonlocal waiting
            waiting = False
            loop.call_soon_threadsafe(cancel)

        loop.call_soon_threadsafe(arm)
        return disarm


def backoff(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait: what the provider asked for, or exponential with full jitter."""
    jitter = random() * min(LONGEST_BACKOFF, 0.5 * 2**attempt)  # noqa: S311 - not for secrets
    # A little more than was asked for: those who were told the same do not come back at once.
    return jitter if retry_after is None else retry_after + random() * min(0.25, retry_after)  # noqa: S311


def _arguments(ask: Ask, *, official: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": ask.question}]
    if ask.system:
        messages.insert(0, {"role": "system", "content": ask.system})
    arguments: dict[str, Any] = {**ask.params, "messages": messages}
    if official and "max_tokens" in arguments:
        # OpenAI's newer models refuse the old name, which is the only one that others know.
        arguments["max_completion_tokens"] = arguments.pop("max_tokens")
    return arguments


def _streamed(chunks: "openai.Stream[ChatCompletionChunk]", reply: Reply) -> Iterator[str]:
    kind = chunks.response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        # The endpoint does not stream; its answer is as good in one piece.
        body = chunks.response.read()
        yield from _whole(ChatCompletion.model_validate_json(body), reply)
        return
    if kind == "text/html":
        raise _not_an_api()
    for chunk in _until_finished(chunks, reply):
        _note(chunk, reply)
        for choice in chunk.choices or ():
            reply.finish_reason = choice.finish_reason or reply.finish_reason
            delta = choice.delta
            text = storable((delta.content or delta.refusal or "") if delta else "")
            if text:
                reply.texts.append(text)
                yield text
    if reply.texts and reply.finish_reason is None:
        raise BrokenAnswer(
            "The answer was cut off: the provider closed the stream in the middle.",
            "Ask again; what had arrived is kept.",
            retryable=True,
        )


def _until_finished(
    chunks: Iterable[ChatCompletionChunk], reply: Reply
) -> Iterator[ChatCompletionChunk]:
    """The chunks; a connection that breaks when the answer was already finished costs nothing."""
    try:
        yield from chunks
    except openai.APIConnectionError:
        if reply.finish_reason is None:
            raise


def _whole(answer: object, reply: Reply) -> Iterator[str]:
    if not isinstance(answer, ChatCompletion):
        raise _not_an_api()
    if error := (answer.model_extra or {}).get("error"):
        said = error.get("message") if isinstance(error, dict) else error
        raise openai.OpenAIError(str(said))
    _note(answer, reply)
    for choice in (answer.choices or ())[:1]:
        reply.finish_reason = choice.finish_reason
        message = choice.message
        text = storable((message.content or message.refusal or "") if message else "")
        if text:
            reply.texts.append(text)
            yield text


def _note(part: ChatCompletion | ChatCompletionChunk, reply: Reply) -> None:
    # The package does not validate what it parses: a provider may leave out or garble anything.
    if isinstance(part.model, str) and part.model:
        reply.model = storable(part.model)
    if isinstance(part.id, str) and part.id:
        reply.response_id = storable(part.id)
    if part.usage is not None:
        reply.prompt_tokens = whole(getattr(part.usage, "prompt_tokens", None))
        reply.completion_tokens = whole(getattr(part.usage, "completion_tokens", None))


def _refuse_blank(reply: Reply) -> None:
    if reply.text.strip():
        return
    if reply.finish_reason == "length":
        raise BrokenAnswer(
            "The token limit was reached before the first word of the answer.",
            "Allow more with --max-tokens.",
        )
    if reply.finish_reason == "content_filter":
        raise BrokenAnswer(
            "The provider's content filter withheld the answer.", "Put the question differently."
        )
    raise BrokenAnswer("The provider's answer is empty.", "Ask again.", retryable=True)


def _not_an_api() -> BrokenAnswer:
    return BrokenAnswer(
        "The provider answered with a web page instead of an API's answer.",
        "See that OPENAI_BASE_URL is an OpenAI-compatible endpoint; it usually ends in /v1.",
    )


def _retry_after(headers: "httpx2.Headers") -> float | None:
    """Seconds from Retry-After, in either form of RFC 9110, or from OpenAI's retry-after-ms."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(float(value) / scale, 0.0)
        except ValueError:
            continue
    try:
        return max(
            parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time(), 0
        )
    except ValueError:
        return None


def _shut_down(connection: socket.socket) -> None:
    # Not the TLS layer's own shutdown: that is not safe while another thread reads.
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return

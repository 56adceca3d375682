"""What went wrong, from what openai and its HTTP client raise to our own kinds."""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx2
import openai

from qacli.config.settings import Settings
from qacli.errors import (
    BrokenAnswer,
    KeyRejected,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnreachable,
)
from qacli.provider.endpoint import Endpoint
from qacli.provider.redirects import Redirect
from qacli.provider.response import ErrorInAnswer
from qacli.validation import sanitize_text

RETRYABLE_STATUS = {408, 409, 429}
"""With 5xx, what the OpenAI API documents as worth asking again; other 4xx never are."""

MESSAGE_LENGTH = 500


class ErrorMapper:
    """Explains the failures of one endpoint, without its key."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings

    def map_error(self, error: Exception) -> ProviderError:
        """The error as one of ours."""
        match error:
            case ErrorInAnswer():
                explained: ProviderError = self._map_stream_error(error)
            case ProviderError():
                explained = error
            case openai.APIStatusError():
                explained = self._map_status(error)
            case openai.APITimeoutError() if isinstance(error.__cause__, httpx2.ConnectTimeout):
                # What one HTTP client calls a refused connection, too.
                explained = self._map_connection_error(error)
            case openai.APITimeoutError() | httpx2.TimeoutException():
                explained = self.idle_timeout()
            case openai.APIConnectionError() | httpx2.HTTPError() | OSError():
                explained = self._map_connection_error(error)
            case RecursionError():
                explained = BrokenAnswer(
                    "The provider's answer is JSON that is nested too deeply.",
                    "See that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
                )
            case ValueError():
                explained = BrokenAnswer(
                    "The provider's answer is not JSON.",
                    "See that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
                    retryable=True,
                )
            case _:
                explained = self._map_stream_error(error)
        return explained

    def total_timeout(self) -> ProviderTimeout:
        """The time for the whole answer is up."""
        return _timeout_error(self._settings.timeout, "--timeout or QA_TIMEOUT")

    def idle_timeout(self) -> ProviderTimeout:
        """Nothing has come for too long."""
        return _timeout_error(self._settings.first_token_timeout, "QA_FIRST_TOKEN_TIMEOUT")

    def html_response(self) -> BrokenAnswer:
        """A page came with status 200."""
        return BrokenAnswer(
            "The provider answered with a web page instead of an API's answer.",
            "See that OPENAI_BASE_URL is an OpenAI-compatible endpoint; it usually ends in /v1.",
        )

    def redirected(self, target: Redirect) -> ProviderRefused:
        """The answer is a redirect to another host."""
        base = self._settings.redact(
            str(target.url.copy_with(query=None)).removesuffix("/chat/completions")
        ).removesuffix("/models")
        return ProviderRefused(
            f"The provider answered {target.status}: a redirect to another host, "
            f"{target.url.netloc.decode('ascii', 'replace')}, which is not followed.",
            f"If you trust that host, set OPENAI_BASE_URL to {base}.",
            provider_status=target.status,
            fatal=True,
        )

    def _map_stream_error(self, error: Exception) -> ProviderUnavailable:
        """An error object in place of an answer, or inside a stream that had begun with 200."""
        return ProviderUnavailable(
            f"The provider broke off with an error: {self._clean_message(error)}.",
            "Ask again.",
            retryable=True,
        )

    def _map_connection_error(self, error: Exception) -> ProviderUnreachable:
        cause: BaseException | None = error
        while cause is not None and cause.__cause__ is not None:
            cause = cause.__cause__
        return ProviderUnreachable(
            f"The connection to {self._endpoint.base_url} failed: "
            f"{self._clean_message(cause or error)}.",
            "See that the address is right and the network is up, then ask again.",
            retryable=True,
        )

    def _map_status(self, error: openai.APIStatusError) -> ProviderError:
        status = error.status_code
        said = f"The provider answered {status}: {self._clean_message(error)}."
        if status == 401:  # noqa: PLR2004 - HTTP's own number, as below
            return KeyRejected(
                said,
                self._settings.advice_on_ignored("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_PROFILE")
                + "Set OPENAI_API_KEY to a key that this endpoint accepts.",
                provider_status=401,
                fatal=True,
            )
        if "insufficient_quota" in {error.code, error.type}:
            return ProviderRefused(
                said,
                "Add credit to the account, or use another key.",
                provider_status=status,
                fatal=True,
            )
        if status in RETRYABLE_STATUS or status >= 500:  # noqa: PLR2004
            return ProviderUnavailable(
                said,
                "Ask again later.",
                provider_status=status,
                retry_after=retry_after(error.response.headers),
                retryable=True,
            )
        todo = "Change the question or the options as it says."
        if status == 404:  # noqa: PLR2004
            todo = (
                f"See that {self._endpoint.base_url} serves the model {self._endpoint.model}, "
                "or name another with --model or QA_MODEL."
            )
        return ProviderRefused(said, todo, provider_status=status, fatal=status == 403)  # noqa: PLR2004

    def _clean_message(self, error: BaseException) -> str:
        """The provider's own words, in one line, without the key."""
        body = getattr(error, "body", None)
        try:
            text = str(body.get("message") or body) if isinstance(body, dict) else ""
        except RecursionError:
            text = "an error that is nested too deeply to show"
        text = text or (body if isinstance(body, str) else "") or str(error)
        if re.match(r"\s*<(!doctype|html|head|\?xml)", text, re.IGNORECASE):
            title = re.search(r"<title>([^<]*)", text, re.IGNORECASE)
            named = f" titled {title[1].strip()!r}" if title else ""
            return f"a web page{named} instead of an API's answer"
        text = self._settings.redact(text)
        if self._endpoint.key:
            text = text.replace(self._endpoint.key, "***")
        text = " ".join(sanitize_text(text).split()).rstrip(".")
        short = text[:MESSAGE_LENGTH] + ("…" if len(text) > MESSAGE_LENGTH else "")
        return short or type(error).__name__


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After, in either form of RFC 9110, or from OpenAI's retry-after-ms."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except ValueError:
        return None
    return max(moment - time.time(), 0.0)


def _timeout_error(seconds: float, name: str) -> ProviderTimeout:
    return ProviderTimeout(
        f"The provider did not answer within {seconds:g} s.",
        f"Ask again, or allow more time with {name}.",
        retryable=True,
    )

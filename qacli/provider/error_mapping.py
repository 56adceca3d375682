"""Map the exceptions of openai and its HTTP client to `ProviderError`s."""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

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
from qacli.provider.error_body import ErrorBody, parse_error
from qacli.provider.redirects import Redirect
from qacli.provider.response import ErrorInAnswer
from qacli.provider.transport import StatusError
from qacli.validation import sanitize_text

RETRYABLE_STATUS = {408, 409, 429}
"""Besides 5xx, the statuses that the openai package retries; other 4xx are final."""

MAX_MESSAGE_LENGTH = 500

QUOTA = {"insufficient_quota", "insufficient_credits", "billing_hard_limit_reached"}
"""The codes and types of an error that only a payment ends."""

REFUSED_CODE = re.compile(
    r"invalid_|unsupported_|image_|empty_image_|failed_to_download_|context_length_"
    r"|data_residency_|\w+_policy"
)
"""The codes of errors in a response that the same request ends in again; see `ResponseError` in
OpenAI's API reference."""

OPTIONS = frozenset(
    {
        *("temperature", "top_p", "seed", "stop", "reasoning_effort", "verbosity"),
        *("frequency_penalty", "presence_penalty", "tool"),
    }
)
"""The parameters that are sent only where the user has asked for them by name."""

RESPONSES_NAMES = {
    "reasoning.effort": "reasoning_effort",
    "text.verbosity": "verbosity",
    "tools": "tool",
}
"""The names of these parameters in the Responses API."""


class ErrorMapper:
    """Maps the exceptions of one endpoint; the key is in no error."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings

    def map_error(self, error: Exception) -> ProviderError:
        """Return the error for an exception that was raised during a request."""
        match error:
            case ErrorInAnswer():
                mapped: ProviderError = self._map_stream_error(error.error)
            case ProviderError():
                mapped = error
            case StatusError():
                mapped = self._map_status(error.status, parse_error(error.body), error.headers)
            case openai.APITimeoutError() if isinstance(error.__cause__, httpx2.ConnectTimeout):
                # One of the HTTP clients raises this for a refused connection too.
                mapped = self._map_connection_error(error)
            case httpx2.ConnectTimeout():
                mapped = self._map_connection_error(error)
            case openai.APITimeoutError() | httpx2.TimeoutException():
                mapped = self.idle_timeout()
            case openai.APIConnectionError() | httpx2.HTTPError() | OSError():
                mapped = self._map_connection_error(error)
            case RecursionError():
                mapped = BrokenAnswer(
                    "The provider's answer is JSON that is nested too deeply.",
                    "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
                )
            case ValueError():
                mapped = BrokenAnswer(
                    "The provider's answer is not JSON.",
                    "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
                    retryable=True,
                )
            case _:
                mapped = self._map_stream_error(ErrorBody(str(error) or type(error).__name__))
        return mapped

    def total_timeout(self) -> ProviderTimeout:
        """Return the error for an answer that was not complete in time."""
        return _timeout_error(self._settings.timeout, "--timeout or QA_TIMEOUT")

    def idle_timeout(self) -> ProviderTimeout:
        """Return the error for a provider that sent no data for too long."""
        return _timeout_error(self._settings.first_token_timeout, "QA_FIRST_TOKEN_TIMEOUT")

    def html_response(self) -> BrokenAnswer:
        """Return the error for an HTML page with status 200."""
        return BrokenAnswer(
            "The provider answered with a web page instead of an API response.",
            "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint; it usually ends in /v1.",
        )

    def redirected(self, target: Redirect) -> ProviderRefused:
        """Return the error for a redirect to another host."""
        base = self._settings.redact(str(target.url.copy_with(query=None)))
        for path in ("/chat/completions", "/responses", "/models"):
            base = base.removesuffix(path)
        return ProviderRefused(
            f"The provider answered {target.status}: a redirect to another host, "
            f"{target.url.netloc.decode('ascii', 'replace')}, which is not followed.",
            f"If you trust that host, set OPENAI_BASE_URL to {base}.",
            provider_status=target.status,
            fatal=True,
        )

    def needs_other_api(self, error: Exception) -> ProviderError:
        """Return the error for an API that the user has chosen and the endpoint refuses."""
        mapped = self.map_error(error)
        mapped.todo = "Set QA_API to auto, which asks by the other API."
        return mapped

    def has_no_tools(self, error: Exception) -> ProviderError:
        """Return the error for tools where the endpoint has no Responses API for the model."""
        mapped = self.map_error(error)
        mapped.todo = (
            "Leave out --tool, or choose another --model: tools need the Responses API, which "
            "this one does not have here."
        )
        return mapped

    def _map_stream_error(self, error: ErrorBody) -> ProviderError:
        """Map an error in place of an answer, or in a stream that began with status 200."""
        if error.status is not None:
            return self._map_status(error.status, error, {})
        what = f"The provider stopped with an error: {self._clean(error.message)}."
        if REFUSED_CODE.match(error.code or ""):
            advice = self._advice_on_refusal(HTTPStatus.BAD_REQUEST, error)
            return ProviderRefused(what, advice, details={**error.details()})
        return ProviderUnavailable(
            what,
            "Ask again.",
            retryable=True,
            details={**error.details()},
        )

    def _map_connection_error(self, error: Exception) -> ProviderUnreachable:
        cause: BaseException | None = error
        while cause is not None and cause.__cause__ is not None:
            cause = cause.__cause__
        return ProviderUnreachable(
            f"The connection to {self._endpoint.base_url} failed: "
            f"{self._clean(str(cause or error)) or type(cause or error).__name__}.",
            "Check the URL and the network, then ask again.",
            retryable=True,
        )

    def _map_status(
        self, status: int, error: ErrorBody, headers: Mapping[str, str]
    ) -> ProviderError:
        what = f"The provider answered {status}: {self._clean(error.message)}."
        details: dict[str, str | int] = {"status": status, **error.details()}
        if status == HTTPStatus.UNAUTHORIZED:
            return KeyRejected(
                what,
                self._settings.advice_on_ignored("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_PROFILE")
                + "Set OPENAI_API_KEY to a valid key for this endpoint.",
                provider_status=status,
                fatal=True,
                details=details,
            )
        if status == HTTPStatus.PAYMENT_REQUIRED or QUOTA & {error.code, error.type}:
            return ProviderRefused(
                what,
                "Add credit to the account, or use another key.",
                provider_status=status,
                fatal=True,
                details=details,
            )
        if status in RETRYABLE_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ProviderUnavailable(
                what,
                "Ask again later.",
                provider_status=status,
                retry_after=retry_after(headers),
                retryable=True,
                details=details,
            )
        return ProviderRefused(
            what,
            self._advice_on_refusal(status, error),
            provider_status=status,
            fatal=status == HTTPStatus.FORBIDDEN,
            details=details,
        )

    def _advice_on_refusal(self, status: int, error: ErrorBody) -> str:
        if status == HTTPStatus.NOT_FOUND:
            return (
                f"Check that {self._endpoint.base_url} serves the model {self._endpoint.model}, "
                "or choose another with --model or QA_MODEL."
            )
        if error.code == "context_length_exceeded":
            return "Shorten the question, its files or the conversation, or choose another --model."
        option = refused_option(error)
        if option is not None:
            return f"Leave out --{option.replace('_', '-')}, or choose another --model."
        return "Change the question or the options."

    def _clean(self, text: str) -> str:
        """Return a message in one line, without secrets."""
        text = self._settings.redact(text, self._endpoint.key)
        text = " ".join(sanitize_text(text).split()).rstrip(".")
        return text[:MAX_MESSAGE_LENGTH] + ("…" if len(text) > MAX_MESSAGE_LENGTH else "")


def refused_option(error: ErrorBody) -> str | None:
    """Return the option of the user that an error is about; None if it is about none of them."""
    names = [error.param] if error.param else re.findall(r"[\w.]*\w", error.message)
    names = [RESPONSES_NAMES.get(name, name) for name in names]
    return next((name for name in names if name in OPTIONS), None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After (RFC 9110, either form) or OpenAI's retry-after-ms."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except ValueError:
        return None
    return max(date - time.time(), 0.0)


def _timeout_error(seconds: float, name: str) -> ProviderTimeout:
    return ProviderTimeout(
        f"The provider did not answer within {seconds:g} s.",
        f"Ask again, or increase {name}.",
        retryable=True,
    )

"""Map the exceptions of openai and its HTTP client to `ProviderError`s."""

import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import httpx2
import openai

from qacli.config.settings import Settings
from qacli.errors import (
    BrokenAnswer,
    KeyRejected,
    ModelNotFound,
    ProviderError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnreachable,
)
from qacli.model_options import RESERVED, flag_of
from qacli.provider.endpoint import Endpoint
from qacli.provider.error_body import ErrorBody, parse_error
from qacli.provider.error_kinds import (
    connection_reason,
    implied_status,
    is_about_key,
    is_about_part,
    is_about_place,
    is_about_system,
    is_filtered,
    is_retryable,
    is_too_long,
    may_pass,
    needs_payment,
)
from qacli.provider.redirects import Redirect
from qacli.provider.response import ErrorInAnswer
from qacli.provider.retry_after import retry_after, wait_in_text
from qacli.provider.transport import StatusError
from qacli.redaction import redact_url
from qacli.validation import sanitize_text

MAX_MESSAGE_LENGTH = 500

QUOTA = {"insufficient_quota", "insufficient_credits", "billing_hard_limit_reached"}
"""The codes and types of an error that only a payment can end."""

REFUSED_CODE = (
    r"invalid_|unsupported_|image_|empty_image_|failed_to_download_|context_length_"
    r"|data_residency_|\w+_policy"
)
"""The codes of errors that the same request would have again; see `ResponseError` in
OpenAI's API reference."""

MODEL_NOT_FOUND = frozenset(
    {
        *("model_not_found", "model_not_available", "model_decommissioned", "invalid_model"),
        *("DeploymentNotFound", "unknown_model", "model_not_supported", "ModelError"),
    }
)
"""Codes and types of OpenAI, Together, Groq, Mistral, Azure, Hugging Face and OpenCode's Zen, which
has the status 401 for it."""

MODEL_NOT_FOUND_TEXT = (
    r"(?i)"
    r"\bmodels?\b.{0,120}?\b(not found|not exist|doesn't exist|is unknown|decommissioned"
    r"|has been (deprecated|retired|removed|shut down)|is not (available|deployed))"
    r"|\b(unknown|invalid|no such) model\b|not a valid model|no endpoints found for|^model: "
    r"|could not find (real |the )?model|no models? (is |are )?loaded"
    r"|not found the model|no model found|model identifier is invalid|模型不存在"
    r"|^(the )?(requested )?model \S+ is not supported\W*$"
)
"""Messages for a model that is not served: of OpenAI and vLLM, Ollama, Gemini, DeepSeek; of
Mistral and Perplexity; of OpenRouter; of Anthropic; of llama-swap, LocalAI and LM Studio; of
Moonshot, Bedrock and Zhipu."""

MODEL_STATUS = frozenset({400, 404, 410, 422})
"""The statuses of responses with these messages; a code may come with any status."""

REDIRECTS = range(HTTPStatus.MULTIPLE_CHOICES, HTTPStatus.BAD_REQUEST)
"""The statuses of redirects that are not followed: they do not keep a POST, or never end."""

RESPONSES_NAMES = {
    "reasoning.effort": "reasoning_effort",
    "text.verbosity": "verbosity",
}
"""The names of these parameters in the Responses API."""


NO_REASONING = r"(?i)not support (thinking|reasoning)"
"""Ollama's message for a model that does not reason, which names no option."""


NO_PARAMS: Mapping[str, Any] = MappingProxyType({})


class ErrorMapper:
    """Maps the exceptions of one endpoint; the key is in no error."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings

    def map_error(self, error: Exception, params: Mapping[str, Any] = NO_PARAMS) -> ProviderError:
        """Return the error for an exception that was raised during a request.

        Args:
            error: The exception.
            params: The model that was asked and the options of the request.
        """
        match error:
            case ErrorInAnswer():
                mapped: ProviderError = self._map_stream_error(error.error, params, error.status)
            case ProviderError():
                mapped = error
            case StatusError():
                body = parse_error(error.body)
                mapped = self._map_status(error.status, body, error.headers, params)
            case openai.APITimeoutError() if isinstance(error.__cause__, httpx2.ConnectTimeout):
                # One of the HTTP clients raises this for a refused connection too.
                mapped = self._map_connection_error(error)
            case httpx2.ConnectTimeout():
                mapped = self._map_connection_error(error)
            case openai.APITimeoutError() | httpx2.TimeoutException():
                mapped = self.idle_timeout()
            case httpx2.DecodingError() | RecursionError() | ValueError():
                mapped = _unreadable(error)
            case openai.APIConnectionError() | httpx2.HTTPError() | OSError():
                mapped = self._map_connection_error(error)
            case _:
                mapped = self._map_stream_error(
                    ErrorBody(str(error) or type(error).__name__), params
                )
        return mapped

    def total_timeout(self) -> ProviderTimeout:
        """Return the error for an answer that was not complete in time."""
        return _timeout_error(self._settings.timeout, "--timeout or QA_TIMEOUT")

    def idle_timeout(self) -> ProviderTimeout:
        """Return the error for a provider that sent no data for too long."""
        return _timeout_error(self._settings.first_token_timeout, "QA_FIRST_TOKEN_TIMEOUT")

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
        provider_error = self.map_error(error)
        provider_error.todo = "Set QA_API to auto, which asks by the other API."
        return provider_error

    def has_no_tools(self, error: Exception) -> ProviderError:
        """Return the error for a request with tools to an endpoint without the Responses API.

        An endpoint can lack it for one model only.
        """
        provider_error = self.map_error(error)
        provider_error.todo = (
            "Leave out --tool, or choose another --model: tools need the Responses API, which "
            "this one does not have here."
        )
        return provider_error

    def _map_stream_error(
        self, error: ErrorBody, params: Mapping[str, Any], status: int | None = None
    ) -> ProviderError:
        """Map an error in place of an answer, or in a stream that began with status 200."""
        status = implied_status(error) if status is None else status
        if status is not None:
            return self._map_status(status, error, {}, params)
        what = f"The provider stopped with an error: {self._clean(error.message)}."
        if re.match(REFUSED_CODE, error.code or ""):
            advice = self._advice_on_refusal(HTTPStatus.BAD_REQUEST, error, params)
            return ProviderRefused(what, advice, details={**error.details()})
        return ProviderUnavailable(
            what,
            "Ask again.",
            retryable=True,
            details={**error.details()},
        )

    def _map_connection_error(self, error: Exception) -> ProviderError:
        text = self._clean(connection_reason(error))
        variable = self._endpoint.route.variable
        through = f" through the proxy of {variable}" if variable else ""
        if str(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED.value) in text and variable:
            return self._proxy_login()
        is_untrusted = "CERTIFICATE_VERIFY_FAILED" in text
        advice = "Check the URL and the network, then ask again."
        if is_untrusted:
            advice = (
                "If its certificate is from a private authority, name its file in SSL_CERT_FILE."
            )
        elif variable:
            advice = f"Check {variable} and the network, then ask again."
        return ProviderUnreachable(
            f"The connection to {redact_url(self._endpoint.base_url)}{through} failed: {text}.",
            advice,
            retryable=not is_untrusted,
        )

    def _proxy_login(self) -> KeyRejected:
        """Return the error for a proxy that rejects the user and the password (407)."""
        variable = self._endpoint.route.variable
        return KeyRejected(
            f"The proxy of {variable} takes no request without a valid user and password.",
            f"Set {variable} to http://user:password@host:port.",
            fatal=True,
        )

    def _map_status(
        self, status: int, error: ErrorBody, headers: Mapping[str, str], params: Mapping[str, Any]
    ) -> ProviderError:
        reason = self._clean(error.message)
        if status in REDIRECTS:
            reason = "a redirect that cannot be followed"
        what = f"The provider answered {status}{': ' if reason else ' without a reason'}{reason}."
        details: dict[str, str | int] = {"status": status, **error.details()}
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and self._endpoint.route.variable:
            return self._proxy_login()
        # Perplexity sends 401 for an account without credit.
        is_other = needs_payment(status, error) or is_model_missing(status, error)
        if status == HTTPStatus.UNAUTHORIZED and not is_other:
            return KeyRejected(
                what,
                self._settings.advice_on_ignored("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_PROFILE")
                + self._advice_on_key(),
                provider_status=status,
                fatal=True,
                details=details,
            )
        if needs_payment(status, error):
            return ProviderRefused(
                what,
                "Add credit to the account, or use another key.",
                provider_status=status,
                fatal=True,
                details=details,
            )
        retryable = is_retryable(status, error, headers)
        if retryable or may_pass(status, error):
            delays = (retry_after(headers), error.retry_after, wait_in_text(error.message))
            return ProviderUnavailable(
                what,
                "Ask again later.",
                provider_status=status,
                retry_after=next((delay for delay in delays if delay is not None), None),
                retryable=retryable,
                details=details,
            )
        if is_model_missing(status, error):
            from qacli.provider.model_cache import ModelListCache
            from qacli.provider.model_list import model_advice

            ids, _ = ModelListCache(self._settings.data_path).get(self._endpoint.base_url)
            return ModelNotFound(
                what,
                model_advice(self._model(params), self._endpoint.base_url, ids),
                provider_status=status,
                details=details,
            )
        return ProviderRefused(
            what,
            self._advice_on_refusal(status, error, params),
            provider_status=status,
            details=details,
        )

    def _advice_on_refusal(self, status: int, error: ErrorBody, params: Mapping[str, Any]) -> str:
        access = self._advice_on_access(status, error, params)
        return self._advice_on_request(status, error, params) if access is None else access

    def _advice_on_access(
        self, status: int, error: ErrorBody, params: Mapping[str, Any]
    ) -> str | None:
        """Return the advice on the address, the network or the key, if an error is about them."""
        if error.is_page or status == HTTPStatus.METHOD_NOT_ALLOWED:
            return (
                "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint, and that no proxy "
                "or firewall answers in its place."
            )
        if status == HTTPStatus.NOT_FOUND:
            return (
                f"Check that {redact_url(self._endpoint.base_url)} serves the model "
                f"{self._model(params)}, or choose another with --model or QA_MODEL."
            )
        if is_about_place(error):
            return "Use another endpoint, or a network in a country that this one serves."
        if is_about_key(error):
            return self._advice_on_key()
        return None

    def _advice_on_request(self, status: int, error: ErrorBody, params: Mapping[str, Any]) -> str:
        if is_filtered(error):
            return "Put the question differently."
        if is_too_long(status, error):
            return "Shorten the question, its files or the conversation, or choose another --model."
        if is_about_part(error):
            return "Leave out the images and the other files, or choose another --model."
        option = refused_option(error, params)
        flag = "--system" if is_about_system(error) else option and flag_of(option)
        if flag is not None:
            return f"Leave out {flag}, or choose another --model."
        if status == HTTPStatus.FORBIDDEN:
            return (
                f"Check that the key, its account and this network may use {self._model(params)}, "
                "or choose another --model."
            )
        return (
            "Check that OPENAI_BASE_URL is the address of an OpenAI-compatible endpoint."
            if status in REDIRECTS
            else "Change the question or the options, or choose another --model."
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR
            else "Change the question or the options."
        )

    def _advice_on_key(self) -> str:
        name = self._settings.key_variable or "OPENAI_API_KEY"
        return f"Set {name} to a valid key for this endpoint."

    def _model(self, params: Mapping[str, Any]) -> str:
        return str(params.get("model") or self._endpoint.model)

    def _clean(self, text: str) -> str:
        """Return a message in one line, without secrets."""
        text = self._settings.redact(text, *self._endpoint.secrets)
        text = " ".join(sanitize_text(text).split()).rstrip(".")
        return text[:MAX_MESSAGE_LENGTH] + ("…" if len(text) > MAX_MESSAGE_LENGTH else "")


def is_model_missing(status: int, error: ErrorBody) -> bool:
    """Return whether a response says that the endpoint does not serve the model."""
    if MODEL_NOT_FOUND & {error.code, error.type}:
        return True
    return status in MODEL_STATUS and re.search(MODEL_NOT_FOUND_TEXT, error.message) is not None


def refused_option(error: ErrorBody, params: Collection[str]) -> str | None:
    """Return the option of the user that an error is about; None if it is about none of them.

    Args:
        error: The provider's error.
        params: The names of the options in the request.
    """
    names = re.findall(r"[\w.]*\w", error.param or error.message)
    if re.search(NO_REASONING, error.message):
        names.append("reasoning_effort")
    # xAI and gateways write `reasoningEffort`.
    names += [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names]
    # Both APIs' names stand for one option of the user.
    names = [RESPONSES_NAMES.get(name, re.split(r"[.\[]", name)[0]) for name in names]
    names = ["max_tokens" if name == "max_completion_tokens" else name for name in names]
    return next((name for name in names if name in params and name not in RESERVED), None)


def _unreadable(error: Exception) -> BrokenAnswer:
    """Return the error for an answer that is no JSON."""
    if isinstance(error, RecursionError):
        what = "The provider's answer is JSON that is nested too deeply."
    elif isinstance(error, ValueError):
        what = "The provider's answer is not JSON."
    else:
        what = "The provider's answer cannot be decompressed: its Content-Encoding is wrong."
    return BrokenAnswer(
        what,
        "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
        retryable=not isinstance(error, RecursionError),
    )


def _timeout_error(seconds: float, name: str) -> ProviderTimeout:
    return ProviderTimeout(
        f"The provider did not answer within {seconds:g} s.",
        f"Ask again, or increase {name}.",
        retryable=True,
    )

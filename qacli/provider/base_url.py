"""The base URL of the provider that the settings name, without the rest of an endpoint.

A completion of a shell needs only the URL; see `qacli.provider.endpoint` for all of it.
"""

from qacli.config import credentials
from qacli.config.defaults import LOCAL, OPENAI_BASE_URL
from qacli.config.settings import Settings


def local_path(model: str | None) -> str | None:
    """Return the path in `local:/path.gguf`, empty in `local`; None for any other model."""
    name, _, path = (model or "").partition(":")
    return path if name == LOCAL else None


def remote_url(settings: Settings, model: str | None = None) -> str | None:
    """Return the base URL as it is configured; None if no provider elsewhere is configured.

    Args:
        settings: The URL, the model, and the source of the key.
        model: The model of this question; it has precedence over the settings.
    """
    if local_path(settings.model_name(model)) is not None:
        return None
    if settings.base_url or credentials.is_configured(settings):
        return settings.base_url or OPENAI_BASE_URL
    return None

"""The models of the endpoint: the list of the provider, completion of `--model`, suggestions."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from qacli.cli.console import Console
from qacli.errors import ModelNotFound, QaError

if TYPE_CHECKING:
    from qacli.config.settings import Settings
    from qacli.provider.endpoint import Endpoint

COMPLETION_SECONDS = 5.0
"""Time limit of the request for completions, which runs in the background."""

SUGGESTION_SECONDS = 5.0
RETRY_AFTER = timedelta(minutes=1)
"""The time in which a request for completions is not repeated, whether it fails or still runs."""


def fetch_models(
    endpoint: "Endpoint",
    settings: "Settings",
    console: Console | None = None,
    *,
    seconds: float | None = None,
) -> list[dict[str, Any]]:
    """Return the provider's list of models, and keep a copy of their names.

    Args:
        endpoint: The endpoint, with its key.
        settings: The time limits, and the place of the copy.
        console: Shows a moving line on a terminal while the list is awaited; None shows nothing.
        seconds: A shorter time limit; None for the usual one.

    Raises:
        ProviderError: The list cannot be read.
        TimeoutError: The list did not come within `seconds`.
    """
    import asyncio

    from qacli.cli.preload import hide_module
    from qacli.provider.model_cache import ModelListCache

    async def fetch() -> list[dict[str, Any]]:
        with hide_module("aiohttp"):
            from qacli.provider.client import AsyncProvider

        async with AsyncProvider(endpoint, settings) as provider, asyncio.timeout(seconds):
            return await provider.models()

    with console.show_status(f"models of {endpoint.name}") if console else nullcontext():
        models = asyncio.run(fetch())
    ids = sorted({model["id"] for model in models})
    ModelListCache(settings.data_path).put(endpoint.base_url, ids)
    return models


@contextmanager
def suggest_models(endpoint: "Endpoint", settings: "Settings", console: Console) -> Iterator[None]:
    """Name the most similar models in the error for one that is not served.

    The error has those of the copy on disk. For a person at a terminal the list is read again.
    """
    try:
        yield
    except ModelNotFound as error:
        if console.stderr.isatty():
            from qacli.provider.model_list import model_advice

            try:
                models = fetch_models(endpoint, settings, console, seconds=SUGGESTION_SECONDS)
            except (QaError, TimeoutError, KeyboardInterrupt):
                models = []
            if models:
                ids = [model["id"] for model in models]
                error.todo = model_advice(endpoint.model, endpoint.base_url, ids)
        raise


def refresh_models() -> None:
    """Read the endpoint's list for the completion of the shell, if the copy on disk is old.

    A request is sent only with a key that needs no password and no command.
    """
    from qacli.config import credentials, loader
    from qacli.provider.endpoint import resolve_endpoint
    from qacli.provider.model_cache import ModelListCache

    try:
        settings = loader.load_settings()
        endpoint = resolve_endpoint(settings, with_key=False)
        if endpoint.weights is not None:
            return
        cache = ModelListCache(settings.data_path)
        ids, is_fresh = cache.get(endpoint.base_url)
        if not is_fresh and (settings.api_key or not credentials.is_configured(settings)):
            # First, so that the next Tab does not start another process.
            cache.put(endpoint.base_url, ids, fresh_for=RETRY_AFTER)
            endpoint = replace(endpoint, key=settings.api_key or "")
            fetch_models(endpoint, settings, seconds=COMPLETION_SECONDS)
    except (QaError, TimeoutError):
        return


if __name__ == "__main__":
    refresh_models()

"""The options of a run that are stored with its batch, for other workers that join it.

No key and no password is stored: each worker has its own, and its own settings name the endpoint.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qacli.batch.options import BatchOptions
from qacli.config.settings import Settings
from qacli.cost import Pricing
from qacli.errors import InvalidRequest, NotConfigured
from qacli.model_options import merge_params
from qacli.provider.endpoint import Endpoint

if TYPE_CHECKING:
    from qacli.db.models import Batch

STORED = ("retries", "timeout", "rpm", "tpm", "max_failures", "max_wait", "max_outage")
"""The options of `BatchOptions` that are stored as they are."""


def address_of(endpoint: Endpoint) -> str:
    """Return an endpoint's URL without its query, which may have a key; `local` on this machine."""
    if endpoint.weights is not None:
        return endpoint.name
    return urlsplit(endpoint.base_url)._replace(query="", fragment="").geturl().rstrip("/")


def run_options_of(
    options: BatchOptions, endpoint: Endpoint, settings: Settings, *, jobs: int
) -> dict[str, Any]:
    """Return the options to store with the batch.

    Args:
        options: The options of this run.
        endpoint: The endpoint that it asks.
        settings: The names of models and their options, from the configuration file.
        jobs: The value of `--jobs`.
    """
    return {
        "endpoint": address_of(endpoint),
        "jobs": jobs,
        **{name: getattr(options, name) for name in STORED},
        "aliases": dict(settings.aliases),
        "model_defaults": {name: dict(value) for name, value in settings.model_defaults.items()},
        "extra_body": dict(settings.extra_body),
    }


def stored_options(
    batch: "Batch", endpoint: Endpoint, *, jobs: int, lease_seconds: float
) -> BatchOptions:
    """Return the options of a worker that joins a batch.

    Args:
        batch: The batch.
        endpoint: The endpoint of this worker's settings.
        jobs: Maximum concurrent requests.
        lease_seconds: See `BatchOptions`.

    Raises:
        NotConfigured: The endpoint is not that of the batch.
    """
    run = require_run_options(batch)
    if run["endpoint"] != address_of(endpoint):
        raise NotConfigured(
            f"The batch {batch.name} asks {run['endpoint']}, and this worker is configured for "
            f"{address_of(endpoint)}.",
            "Set OPENAI_BASE_URL and the key of that endpoint here.",
        )
    return options_of(batch, jobs=jobs, lease_seconds=lease_seconds)


def require_run_options(batch: "Batch") -> dict[str, Any]:
    """Return the stored options of a batch.

    Raises:
        InvalidRequest: An older version of qa has begun it, and stored none.
    """
    if batch.items is None or not batch.run_options:
        raise InvalidRequest(
            f"The batch {batch.name} has not been begun by this version of qa.",
            "Run it once with its file: qa batch FILE",
        )
    return batch.run_options


def options_of(batch: "Batch", *, jobs: int, lease_seconds: float) -> BatchOptions:
    """Return the stored options of a batch for any endpoint; see `stored_options`."""
    run = require_run_options(batch)

    def default_params(model: str) -> dict[str, Any]:
        return merge_params(run["model_defaults"].get(model, {}), run["extra_body"])

    return BatchOptions(
        batch_id=batch.id or 0,
        model=batch.settings["model"],
        system=batch.settings["system"],
        params=batch.settings["params"],
        aliases=run["aliases"],
        default_params=default_params,
        jobs=jobs,
        lease_seconds=lease_seconds,
        **{name: run[name] for name in STORED if name in run},
    )


def check_budget(
    max_cost: float | None,
    models: Iterable[str],
    endpoint: Endpoint,
    prices: Pricing,
    settings: Settings,
) -> None:
    """Check that the models have a price if the batch has a budget.

    Raises:
        InvalidRequest: The price of a model is unknown.
    """
    for model in models:
        if max_cost is not None and prices.price(model, endpoint.name) is None:
            raise InvalidRequest(
                f"The model {model} has no price, so --max-cost cannot be used.",
                f"Add it to {settings.prices_path}.",
            )

"""Build the parts of a batch's way through the Batch API from its stored options."""

from collections.abc import Mapping
from typing import Any

from qacli.batch.remote.requests import RequestLines
from qacli.batch.remote.results import ResultReader
from qacli.batch.run_options import options_of, require_run_options
from qacli.config.settings import Settings
from qacli.cost import Pricing
from qacli.db.models import Batch
from qacli.errors import ProviderError
from qacli.provider.endpoint import Endpoint
from qacli.provider.refused_features import RefusedFeatures


def endpoint_of(batch: Batch) -> Endpoint:
    """Return the endpoint with which a batch was begun, without its key.

    Raises:
        InvalidRequest: The batch was begun by an older version.
    """
    run = require_run_options(batch)
    address = run["endpoint"] if "://" in run["endpoint"] else ""
    return Endpoint(base_url=address, key="", model=batch.settings["model"])


def request_lines(batch: Batch, endpoint: Endpoint, settings: Settings) -> RequestLines:
    """Return the builder of a batch's request lines."""
    return RequestLines(
        options=options_of(batch, jobs=1, lease_seconds=settings.lease),
        endpoint=endpoint,
        api=settings.api,
        refused=RefusedFeatures(settings.data_path),
        prices=Pricing.load(settings.prices_path),
    )


def result_reader(batch: Batch, endpoint: Endpoint, settings: Settings) -> ResultReader:
    """Return the reader of a batch's results."""

    def map_error(error: Exception, params: Mapping[str, Any]) -> ProviderError:
        # It loads the openai package: 30 MB, which results without an error do not need.
        from qacli.provider.error_mapping import ErrorMapper

        return ErrorMapper(endpoint, settings).map_error(error, params)

    return ResultReader(
        options=options_of(batch, jobs=1, lease_seconds=settings.lease),
        prices=Pricing.load(settings.prices_path),
        endpoint=endpoint.name,
        map_error=map_error,
    )

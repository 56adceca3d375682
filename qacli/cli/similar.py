"""`qa list --similar`: records by the similarity of their texts."""

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from qacli.cli.console import Console
from qacli.cli.store import count_noun
from qacli.errors import NotConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qacli.config.settings import Settings
    from qacli.db.filters import Filter
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store
    from qacli.provider.endpoint import Endpoint

REPORT_EVERY = 64 * 16
"""Records between two lines about the progress."""


def similar_dicts(  # noqa: PLR0913, PLR0917 - what the command has
    store: "Store",
    record: "QuestionAnswer",
    only: "Filter",
    limit: int,
    settings: "Settings",
    console: Console,
) -> list[dict[str, Any]]:
    """Return the records that are most similar to one as dicts, each with its `score`, -1 to 1.

    The embeddings that are missing are computed first, and kept.

    Raises:
        NotConfigured: No model for embeddings is configured.
        ProviderError: The embeddings cannot be computed.
    """
    from qacli.provider.embeddings import fetch_embeddings
    from qacli.services.similar import SimilarRecords, embeddings_of

    with _embedding_endpoint(settings) as endpoint:
        embed = partial(fetch_embeddings, endpoint, settings)
        embeddings = embeddings_of(store, endpoint.name, endpoint.model)
        if missing := embeddings.count_missing():
            console.info(f"Embedding {count_noun(missing, 'record')} with {endpoint.model}.")

        def report(number: int) -> None:
            if number % REPORT_EVERY == 0:
                console.info(f"  {number:,} of {missing:,}")

        records = SimilarRecords(store, embeddings, embed)
        records.embed_missing(report)
        results = records.find(record, only, limit)
    return [{**item.to_dict(), "score": round(score, 4)} for item, score in results]


@contextmanager
def _embedding_endpoint(settings: "Settings") -> "Iterator[Endpoint]":
    """Open the endpoint of the model for embeddings; a local one is started."""
    if settings.embedding_model is None:
        raise NotConfigured(
            "No model for embeddings is configured.",
            "Name one, for example: qa config set embedding_model text-embedding-3-small",
        )
    from qacli.provider.endpoint import resolve_endpoint, start_if_local

    endpoint = resolve_endpoint(settings, settings.embedding_model)
    with ExitStack() as stack:
        yield start_if_local(endpoint, stack, embeddings=True)

"""Ask an endpoint for embeddings (`POST /v1/embeddings` of OpenAI's API)."""

import asyncio
from collections.abc import Sequence
from typing import Any

from qacli.config.settings import Settings
from qacli.errors import BrokenAnswer
from qacli.provider.client import AsyncProvider
from qacli.provider.endpoint import Endpoint


def fetch_embeddings(
    endpoint: Endpoint, settings: Settings, texts: Sequence[str]
) -> list[list[float]]:
    """Return a vector for each text.

    Raises:
        ProviderError: There is no usable answer.
    """

    async def fetch() -> Any:  # noqa: ANN401 - any JSON
        async with AsyncProvider(endpoint, settings) as provider:
            return await provider.post(
                "/embeddings", {"model": endpoint.model, "input": list(texts)}
            )

    return parse_embeddings(asyncio.run(fetch()), len(texts))


def parse_embeddings(body: Any, number: int) -> list[list[float]]:  # noqa: ANN401 - any JSON
    """Return the vectors of a response, in the order of the texts.

    Raises:
        BrokenAnswer: The number of vectors is wrong, or their lengths differ.
    """
    try:
        vectors = {item["index"]: list(map(float, item["embedding"])) for item in body["data"]}
        ordered = [vectors[index] for index in range(number)]
    except (LookupError, TypeError, ValueError):
        ordered = []
    if not ordered or not ordered[0] or len({len(vector) for vector in ordered}) != 1:
        raise BrokenAnswer(
            "The provider's response has no embedding for each text.",
            "Check that QA_EMBEDDING_MODEL names a model for embeddings.",
        )
    return ordered

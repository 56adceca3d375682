"""Features that an endpoint refuses for a model: the request is sent once more without them.

Only what qa adds by itself is left out. An option of the user, such as `--temperature`, is an
error that names the option. What was refused is kept in a file of the data directory, so that no
later process sends it again.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from qacli.private_files import write_private
from qacli.provider.error_body import ErrorBody

REFUSING_STATUS = frozenset({400, 404, 405, 415, 422, 501})
REFUSAL = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|unavailable|extra(_| )"
    r"|not\s+(yet\s+|currently\s+)?(be\s+)?"
    r"(support|permit|allow|recogni[sz]|implement|available|compatible|enabled)"
    r"|does ?n[o']t support|must be verified|no longer support",
    re.IGNORECASE,
)
FILE_NAME = "endpoints.json"


class Feature(StrEnum):
    """A parameter of a request that some endpoints refuse, in the order in which it is found."""

    STREAM_OPTIONS = "stream_options"
    STREAM = "stream"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"
    MAX_TOKENS = "max_tokens"
    RESPONSE_FORMAT = "response_format"


IN_TEXT: Mapping[Feature, re.Pattern[str]] = {
    feature: re.compile(rf"\b{feature.replace('_', '[_ ]')}\b", re.IGNORECASE)
    for feature in Feature
} | {Feature.STREAM: re.compile(r"\bstream(ing)?\b", re.IGNORECASE)}
"""The names in sentences: "response format" of Groq, "streaming" of Bedrock."""

MEANINGS: Mapping[Feature, str] = {
    Feature.STREAM_OPTIONS: "does not take stream_options: the usage may be unknown",
    Feature.STREAM: "does not stream: answers come in one piece",
    Feature.MAX_COMPLETION_TOKENS: "takes max_tokens only",
    Feature.MAX_TOKENS: "takes max_completion_tokens only",
    Feature.RESPONSE_FORMAT: "does not take response_format: the schema is sent in the prompt",
}
"""The sentence for the user about each feature, after the name of the model."""


def refused_feature(status: int, error: ErrorBody, body: Mapping[str, Any]) -> Feature | None:
    """Return the feature that a response refuses; None if it refuses something else.

    Args:
        status: The HTTP status of the response.
        error: The error in it.
        body: The request, so that only what was sent can be refused.
    """
    if status not in REFUSING_STATUS:
        return None
    text = " ".join(filter(None, (error.code, error.type, error.message)))
    if not REFUSAL.search(text):
        return None
    sent = [feature for feature in Feature if body.get(feature)]
    if error.param is not None:
        name = re.split(r"[.\[]", error.param)[0]
        return next((feature for feature in sent if feature == name), None)
    return next((feature for feature in sent if IN_TEXT[feature].search(text)), None)


class RefusedFeatures:
    """The refused features of all endpoints and models.

    Args:
        directory: The data directory; None keeps nothing between processes.
    """

    def __init__(self, directory: Path | None) -> None:
        self._file = None if directory is None else directory / FILE_NAME
        self._table: dict[str, dict[str, list[str]]] | None = None

    def get(self, base_url: str, model: str) -> frozenset[Feature]:
        """Return the features that this endpoint refuses for this model."""
        if self._table is None:
            self._table = self._read()
        names = self._table.get(base_url, {}).get(model, [])
        return frozenset(Feature(name) for name in names if name in set(Feature))

    def add(self, base_url: str, model: str, features: frozenset[Feature]) -> None:
        """Add features. A file that cannot be written costs a request of a later process."""
        table = self._read()
        names = set(table.setdefault(base_url, {}).get(model, [])) | features
        table[base_url][model] = sorted(names)
        self._table = table
        if self._file is not None:
            with suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_private(self._file, json.dumps(table, indent=1).encode())

    def _read(self) -> dict[str, dict[str, list[str]]]:
        if self._file is None:
            return self._table or {}
        try:
            table = json.loads(self._file.read_bytes())
            return {
                str(base_url): {str(model): [*map(str, names)] for model, names in models.items()}
                for base_url, models in table.items()
            }
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return self._table or {}

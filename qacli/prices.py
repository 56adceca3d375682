"""What an answer costs, from a table that the user can edit; unknown is None, never 0.

The default table is OpenAI's published prices as of its date. `prices.toml` beside the
configuration file adds to it and goes before it: `"my-model" = [0.25, 2.00]`, US dollars for a
million prompt tokens and for a million completion tokens.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from qacli.errors import NotConfigured

DATE = "2025-08"
DEFAULT: Mapping[str, tuple[float, float]] = {
    "gpt-5": (1.25, 10.0),
    "gpt-5-mini": (0.25, 2.0),
    "gpt-5-nano": (0.05, 0.40),
    "gpt-4.1": (2.0, 8.0),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-4o": (2.50, 10.0),
    "gpt-4o-mini": (0.15, 0.60),
    "o3": (2.0, 8.0),
    "o4-mini": (1.10, 4.40),
}
MILLION = 1_000_000
CHARACTERS_PER_TOKEN = 4
"""Of English text, as OpenAI's documentation puts it: good for an estimate, not for a bill."""

UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError),
    *(OverflowError, RecursionError),
)
"""What a file of prices raises that is not as it should be."""


class Prices:
    """The prices of models.

    Args:
        own: The user's own, in front of the default ones.
    """

    def __init__(self, own: Mapping[str, tuple[float, float]] | None = None) -> None:
        self._table = {**DEFAULT, **(own or {})}

    @classmethod
    def load(cls, file: Path) -> "Prices":
        """The default prices, and those of a file where it exists.

        Raises:
            NotConfigured: The file is not what it should be.
        """
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
            return cls({name: (float(each[0]), float(each[1])) for name, each in table.items()})
        except FileNotFoundError:
            return cls()
        except UNREADABLE as error:
            raise NotConfigured(
                f"The prices in {file} cannot be read: {error}.",
                'Write them like: "my-model" = [0.25, 2.00]',
            ) from error

    def cost(self, model: str | None, prompt: int | None, completion: int | None) -> float | None:
        """US dollars for so many tokens; None where the price or the usage is unknown.

        A model's dated versions (`gpt-5-mini-2025-08-07`) cost what it costs.
        """
        price = self._price(model or "")
        if price is None or prompt is None or completion is None:
            return None
        return (prompt * price[0] + completion * price[1]) / MILLION

    def _price(self, model: str) -> tuple[float, float] | None:
        if model in self._table:
            return self._table[model]
        head, _, tail = model.partition("-20")
        return self._table.get(head) if tail else None


def estimated_tokens(text: str) -> int:
    """About how many tokens a text is."""
    return len(text) // CHARACTERS_PER_TOKEN + 1

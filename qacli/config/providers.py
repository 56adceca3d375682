"""The known providers: the content of `qacli/data/providers.toml`."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """The values that a profile for a provider needs.

    Attributes:
        base_url: Its URL; None if each user has another one.
        key: The environment variable of its key; None if it needs none.
        model: A model for everyday questions; None for the first that the server lists.
    """

    base_url: str | None = None
    key: str | None = None
    model: str | None = None


def known_providers() -> dict[str, KnownProvider]:
    """Return the known providers by name."""
    text = files("qacli").joinpath("data", "providers.toml").read_text(encoding="utf-8")
    return {name: KnownProvider(**fields) for name, fields in tomllib.loads(text).items()}

"""Suggestions for a mistyped name."""

from collections.abc import Iterable


def similar_name(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar of the names, or None.

    Args:
        name: The mistyped name.
        names: The valid names.
        cutoff: The least similarity, from 0 to 1.
    """
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, names, 1, cutoff)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return "Did you mean X? ", or "" if no name is similar."""
    similar = similar_name(name, names)
    return f"Did you mean {similar}? " if similar else ""

"""The dates on which providers shut models down, from `qacli/data/shutdowns.json`.

That file is kept by hand. It has, for each host: `source`, the provider's page; `read`, the date
on which it was read; and `models`, for each name the date and the model that the provider
recommends instead, or null. A dated version goes with the name without the date.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from qacli.price_table import plain_names

PATH = Path(__file__).parent / "data" / "shutdowns.json"

NOTICE = timedelta(days=60)
"""The time before a shutdown in which a question to the model gets a warning."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The day on which a provider stops serving a model, and the recommended successor.

    Attributes:
        day: The first day on which it is not served.
        successor: The model that its provider recommends; None if it names none.
    """

    day: date
    successor: str | None = None


def find_shutdown(model: str, endpoint: str) -> Shutdown | None:
    """Return the shutdown of a model at an endpoint, see `Endpoint.name`; None if none is known."""
    models = _table().get(endpoint.removesuffix(":443"), {}).get("models", {})
    row = next((models[name] for name in plain_names(model) if name in models), None)
    return None if row is None else Shutdown(date.fromisoformat(row[0]), row[1])


def shutdown_warning(model: str, endpoint: str, today: date) -> str | None:
    """Return a warning about a model that is shut down or soon will be; None for any other."""
    shutdown = find_shutdown(model, endpoint)
    if shutdown is None or today < shutdown.day - NOTICE:
        return None
    verb = "was to be" if shutdown.day <= today else "will be"
    advice = (
        f"Its provider recommends {shutdown.successor}."
        if shutdown.successor
        else "Choose another with --model or QA_MODEL."
    )
    return f"The model {model} {verb} shut down on {shutdown.day}. {advice}"


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(PATH.read_bytes())
    return table

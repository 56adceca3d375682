"""The values that the cases of all clients have, and the form in which it prints their outcomes."""

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

Json = dict[str, Any]
ROUNDS = "Weather? [[tools=3]]"
ERROR = "Who? [[status=400 retry-after=7 x-ratelimit-remaining-requests=7]]"
PARAMETERS: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
PERSON: Json = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def run_cases(cases: Callable[[str, str], dict[str, Callable[[], Any]]]) -> None:
    """Run the cases with the base URL and the key of the command line; print JSON.

    The names of packages follow on the command line; their versions are printed. An exception is
    printed by its type and, where it has one, its HTTP status.
    """
    _, base_url, key, *packages = sys.argv
    outcomes = {}
    for name, run in cases(base_url, key).items():
        try:
            outcomes[name] = run()
        except Exception as error:
            status = getattr(error, "status_code", None)
            outcomes[name] = {"error": type(error).__name__, "status": status}
            if not name.endswith("error"):
                outcomes[name]["message"] = str(error)
    versions = {name: version(name) for name in packages}
    print("\n" + json.dumps({"outcomes": outcomes, "versions": versions}))

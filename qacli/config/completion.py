"""Read the command line that the completion script of a shell passes in variables."""

import os

PREFIX = "_QA_COMPLETE"


def completion_variables() -> dict[str, str]:
    """Return the variables of a completion by their names; empty if there is no line."""
    if f"{PREFIX}_LINE" not in os.environ:
        return {}
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}

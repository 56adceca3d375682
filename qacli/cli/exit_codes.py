"""The exit codes of `qa batch`; `qacli.cli.commands.help` lists those of all commands."""

from collections.abc import Mapping

EXIT_SOME_ITEMS_FAILED = 8
EXIT_NOT_READY = 9
"""The batch is not finished, or the provider's Batch API has not ended."""


def exit_code_of(states: Mapping[str, int]) -> int:
    """Return the exit code of a finished batch from its numbers of items by state."""
    return 0 if states["answered"] == sum(states.values()) else EXIT_SOME_ITEMS_FAILED

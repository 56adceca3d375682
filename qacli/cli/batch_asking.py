"""Ask the questions of a loaded batch in this process, and report how it ended."""

from typing import TYPE_CHECKING, Any

from qacli.cli.batch_api_options import collect_garbage_often
from qacli.cli.console import CLOSED_PIPE, Console
from qacli.cli.exit_codes import exit_code_of
from qacli.config.settings import Settings

if TYPE_CHECKING:
    from qacli.batch.progress import Progress
    from qacli.batch.runner import BatchRunner
    from qacli.db.batches import Batches
    from qacli.provider.endpoint import Endpoint

RESERVED_FILE_DESCRIPTORS = 100
"""Maximum open files besides the connections to the provider."""


def limit_jobs(jobs: int, console: Console) -> int:
    """Return the number of jobs that the limit of open files allows, after raising that limit."""
    from qacli.rlimits import raise_nofile_limit

    needed = jobs + RESERVED_FILE_DESCRIPTORS
    allowed = raise_nofile_limit(needed)
    if allowed == needed:
        return jobs
    console.warning(
        f"Only {allowed - RESERVED_FILE_DESCRIPTORS} jobs: this system allows {allowed} open files."
    )
    return max(allowed - RESERVED_FILE_DESCRIPTORS, 1)


def ask_batch(
    parts: dict[str, Any], endpoint: "Endpoint", settings: Settings, console: Console
) -> tuple["BatchRunner | None", list[int]]:
    """Run the batch in an event loop of its own, with a display of its progress.

    Returns the runner, or None if a second signal ended it at once, and the signals.
    """
    import asyncio

    from qacli.batch.options import StopReason
    from qacli.batch.runner import BatchRunner
    from qacli.cli.progress import ProgressDisplay
    from qacli.cli.signals import stop_on_signals
    from qacli.provider.client import AsyncProvider

    signals: list[int] = []
    options = parts["options"]

    async def main() -> BatchRunner:
        async with AsyncProvider(endpoint, settings, connections=options.jobs) as provider:
            runner = BatchRunner(provider=provider, **parts)
            message = f"stopping; {options.grace:g} s for the questions that are being asked"
            stop_on_signals(lambda: runner.stop(StopReason.SIGNAL, message), signals)
            async with ProgressDisplay(console, runner):
                await runner.run()
            return runner

    collect_garbage_often()
    try:
        return asyncio.run(main()), signals
    except asyncio.CancelledError:
        return None, signals


def report(  # noqa: PLR0913 - the parts of the report, by name
    runner: "BatchRunner | None",
    signals: list[int],
    *,
    batches: "Batches",
    name: str,
    progress: "Progress",
    command: str,
    retry: str,
    console: Console,
) -> int:
    """Print the result of the batch and the command to continue it; return the exit code."""
    from qacli.batch.options import StopReason
    from qacli.cli.progress import summary_of

    if runner is None:
        console.warning(f"Stopped at once; nothing is lost. Go on with: {command}")
        return 128 + signals[0]
    for line in summary_of(name, batches.summary(runner.options.batch_id), progress):
        console.warning(line)
    if signals:
        console.warning(f"Stopped. Go on with: {command}")
        return 128 + signals[0]
    if runner.stopped is not None:
        raise runner.stopped
    counts = batches.counts(runner.options.batch_id)
    if runner.stop_reason is StopReason.OUTPUT_CLOSED:
        return CLOSED_PIPE
    if runner.stop_reason is not None:
        # Also with --quiet: the exit code has no reason.
        console.write_aside(f"Stopped: {progress.stopping}. Go on with: {command}\n")
    elif counts["failed"]:
        console.warning(f"Ask the failed questions again with: {retry}")
    return exit_code_of(counts)

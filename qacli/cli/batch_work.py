"""`qa batch work`: join batches that were begun elsewhere, without their files."""

from contextlib import ExitStack
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.batch_asking import ask_batch, limit_jobs, report
from qacli.cli.console import Console
from qacli.cli.settings import load_settings
from qacli.cli.signals import exit_on_signals
from qacli.config.settings import Settings
from qacli.errors import DatabaseError, InvalidRequest, QaError

if TYPE_CHECKING:
    from qacli.db.batches import Batches
    from qacli.db.models import Batch

IDLE_SECONDS = 2.0
"""The time between two searches for a batch."""

REST_SECONDS = 60.0
"""The time after which a batch that this worker could not finish is tried again."""

EXIT_INTERRUPTED = 128


def work(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of the batch (default: all, oldest first)."),
    ] = None,
    *,
    forever: Annotated[
        bool, typer.Option("--forever", help="Wait for further batches when there are none.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            help="Maximum concurrent requests (default: as many as the batch was begun with).",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no progress and no summary.")
    ] = False,
) -> int:
    """Ask the questions of batches that were begun elsewhere.

    Questions and options come from the database; endpoint and key are those of this machine.
    """
    from qacli.cli.store import open_batches
    from qacli.db.batches import THREADS

    console = Console.from_context(context)
    console.quiet = quiet
    settings = load_settings(console)
    batches = open_batches(settings, console, connections=THREADS)
    if name is not None and not forever:
        return work_on(batches.get(name), batches, settings, console, jobs=jobs)
    return _work_on_all(batches, settings, console, name=name, jobs=jobs, forever=forever)


def _work_on_all(  # noqa: PLR0913 - the options, by name
    batches: "Batches",
    settings: Settings,
    console: Console,
    *,
    name: str | None,
    jobs: int | None,
    forever: bool,
) -> int:
    """Work on one batch after the other; return the last exit code that is not 0."""
    code, rests, loading = 0, dict[int, float](), set[int]()
    while True:
        rests = {batch_id: end for batch_id, end in rests.items() if end > monotonic()}
        # The first process of a container ignores SIGTERM if it has no handler; asking has its own.
        with exit_on_signals():
            try:
                batch = batches.next_open(besides=rests, name=name)
            except DatabaseError as error:
                if not forever:
                    raise
                console.error(error)
                batch = None
            if batch is None:
                if not forever:
                    return code
                sleep(IDLE_SECONDS)
                continue
        if forever and not batch.run_options and batch.id not in loading:
            # `qa batch FILE` stores the items first, and then the options.
            loading.add(batch.id or 0)
            rests[batch.id or 0] = monotonic() + IDLE_SECONDS
            continue
        # Also if it is finished: a finished batch is not open, unless this worker cannot finish it.
        rests[batch.id or 0] = monotonic() + REST_SECONDS
        try:
            batch_code = work_on(batch, batches, settings, console, jobs=jobs)
        except QaError as error:
            if not forever:
                raise
            console.error(error)
            continue
        if batch_code > EXIT_INTERRUPTED:
            return batch_code
        code = batch_code or code


def work_on(  # noqa: PLR0913 - the batch and how it is asked, by name
    batch: "Batch",
    batches: "Batches",
    settings: Settings,
    console: Console,
    *,
    jobs: int | None,
    again: str | None = None,
) -> int:
    """Ask the items of one batch until all are finished; return the exit code.

    Args:
        batch: The batch.
        batches: The database.
        settings: The settings.
        console: Gets the report.
        jobs: Concurrent requests at most; None means as many as the command that began the batch.
        again: The command that goes on, also with failed items; None means that of a file.
    """
    from qacli.batch.claims import refuse_open_parts
    from qacli.batch.progress import Progress
    from qacli.batch.run_options import check_budget, require_run_options, stored_options
    from qacli.cli.ask_runner import start_endpoint
    from qacli.cost import Pricing
    from qacli.recording.outbox import Outbox

    require_run_options(batch)
    refuse_open_parts(batches, batch)
    if batch.cancelled_at is not None:
        raise InvalidRequest(
            f"The batch {batch.name} is cancelled.",
            "Continue it with the command that began it: qa batch FILE",
        )
    prices = Pricing.load(settings.prices_path)
    with ExitStack() as stack:
        endpoint = start_endpoint(settings, batch.settings["model"], console, stack)
        options = stored_options(
            batch,
            endpoint,
            jobs=limit_jobs(jobs or batch.run_options["jobs"], console),
            lease_seconds=settings.lease,
        )
        models = batch.models or (options.model,)
        check_budget(batch.max_cost_usd, models, endpoint, prices, settings)
        counts = batches.counts(options.batch_id)
        progress = Progress(
            sum(counts.values()),
            done=counts["answered"],
            failed=counts["failed"],
            cost=batch.spent_usd or None,
        )
        console.info(f"Working on {batch.name}.")
        parts = {
            "batches": batches,
            "outbox": Outbox(settings.outbox_path),
            "options": options,
            "prices": prices,
            "output": None,
            "progress": progress,
        }
        runner, signals = ask_batch(parts, endpoint, settings, console)
    return report(
        runner,
        signals,
        batches=batches,
        name=batch.name,
        progress=progress,
        command=again or f"qa batch work {batch.name}",
        retry=again or "qa batch FILE --retry-failed",
        console=console,
    )

"""`qa batch collect`: the results of batches at the provider's Batch API."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.batch_api_options import Rest
from qacli.cli.batch_at_provider import BatchAtProvider
from qacli.cli.console import Console
from qacli.cli.exit_codes import EXIT_NOT_READY, exit_code_of
from qacli.cli.settings import load_settings
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.db.batches import Batches
    from qacli.db.models import Batch


def collect(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of the batch (default: all, oldest first)."),
    ] = None,
    *,
    wait: Annotated[
        bool, typer.Option("--until-done", help="Wait until the provider has ended.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no progress and no summary.")
    ] = False,
) -> int:
    """Collect the results of batches at the provider's Batch API.

    The exit code is 0 if every question has an answer, 8 if some have none, and 9 if the provider
    has not ended.
    """
    from qacli.batch_states import PartState
    from qacli.cli.store import open_batches
    from qacli.db.batch_parts import OPEN, BatchParts
    from qacli.db.batches import THREADS

    console = Console.from_context(context)
    console.quiet = quiet
    settings = load_settings(console)
    batches = open_batches(settings, console, connections=THREADS)
    if name is not None:
        return _collect(batches, batches.get(name), settings, console, wait=wait)
    open_ids = BatchParts(batches.store).batches_with(*OPEN, PartState.TAKEN)
    codes = [
        _collect(batches, batch, settings, console, wait=wait)
        for batch in batches.all()
        if batch.id in open_ids
    ]
    if not codes:
        console.info("No batch is at a provider's Batch API.")
    return max(codes, default=0)


def _collect(
    batches: "Batches", batch: "Batch", settings: Settings, console: Console, *, wait: bool
) -> int:
    """Collect one batch, and ask its rest; return the exit code."""
    from qacli.batch.run_options import require_run_options
    from qacli.batch_states import PartState
    from qacli.cli.batch_work import work_on
    from qacli.db.batch_parts import BatchParts

    run_options = require_run_options(batch)
    if "remote" not in run_options:
        raise InvalidRequest(
            f"The batch {batch.name} is not at a provider's Batch API.",
            "Send it there: qa batch FILE --via batch-api",
        )
    with ExitStack() as stack:
        remote = BatchAtProvider.of(batches, batch, settings, console, stack)
        is_settled = remote.collect(wait=wait)
    if remote.signals:
        remote.print_detached("Stopped; the provider continues")
        return 128 + remote.signals[0]
    if not is_settled:
        console.info(f"{batch.name} is not ready. Look again: qa batch collect {batch.name}")
        return EXIT_NOT_READY
    counts = batches.counts(batch.id or 0)
    is_left = run_options["remote"]["rest"] == Rest.LEAVE or batch.cancelled_at is not None
    parts = BatchParts(batches.store).all(batch.id or 0, PartState.TAKEN, PartState.DONE)
    if counts["waiting"] and not is_left and not parts:
        console.warning(
            f"The provider has answered no question of {batch.name}. Ask them directly: qa batch "
            f"work {batch.name}"
        )
    elif counts["waiting"] and not is_left:
        return work_on(batches.get(batch.name), batches, settings, console, jobs=None)
    return exit_code_of(counts)

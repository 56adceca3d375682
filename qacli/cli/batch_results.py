"""`qa batch results` and `qa batch wait`: the results so far, and the end of a batch."""

from enum import StrEnum
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from qacli.cli.batch_show import WATCH_FACTOR, WATCH_SECONDS, BatchStatus
from qacli.cli.console import CLOSED_PIPE, Console
from qacli.cli.exit_codes import EXIT_NOT_READY, exit_code_of
from qacli.cli.options import AsJson, Force, Join, Target, TargetFormat
from qacli.cli.settings import load_settings

if TYPE_CHECKING:
    from qacli.db.batches import Batches


Name = Annotated[str, typer.Argument(metavar="BATCH", help="Name of the batch.")]


class Only(StrEnum):
    """The results that are written."""

    ANSWERED = "answered"
    FAILED = "failed"


def results(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: Name,
    *,
    output: Target = None,
    output_format: TargetFormat = None,
    join: Join = None,
    only: Annotated[
        Only | None,
        typer.Option(metavar="STATUS", help="Only results that are answered, or failed."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Only answers of MODEL.")
    ] = None,
    force: Force = False,
) -> int:
    """Write the results so far, in the order of the items."""
    from qacli.batch.result_table import asked_model, table_of
    from qacli.batch.writer import ResultWriter, format_of, recorded_output
    from qacli.cli.store import open_batches

    console = Console.from_context(context)
    form = format_of(output, output_format)
    settings = load_settings(console)
    model = None if model is None else settings.model_name(model)
    batches = open_batches(settings, console)
    batch = batches.get(name)
    source = batch.file.get("path")
    out = ResultWriter(
        output,
        form,
        stdout=console,
        source=None if source is None else Path(source),
        batch_id=batch.id,
        outputs=batch.outputs,
        table=table_of(batch, form, join=join),
        force=force,
    )
    with recorded_output(batches, batch.id or 0, out):
        for page in batches.all_finished(batch.id or 0, rows=out.table.has_rows):
            out.write(
                item
                for item in page
                if item.record is not None
                and (only is None or item.record["status"] == only)
                and (model is None or asked_model(item.record) == model)
            )
    return CLOSED_PIPE if out.closed else 0


def wait(
    context: typer.Context,
    name: Name,
    *,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="Stop waiting after this time."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Wait until every question of a batch is finished.

    The exit code is 0 if every question has an answer, 8 if some have none, and 9 if the batch is
    not finished: no process works on it, or the time is over.
    """
    from qacli.cli.store import open_batches

    console = Console.from_context(context)
    batches = open_batches(load_settings(console), console)
    end = float("inf") if timeout is None else monotonic() + timeout
    began = monotonic()
    status = BatchStatus.read(batches, name)
    while not status.is_finished and is_worked_on(status, batches) and monotonic() < end:
        pause = max(WATCH_SECONDS, WATCH_FACTOR * (monotonic() - began))
        sleep(max(min(pause, end - monotonic()), 0))
        began = monotonic()
        status = BatchStatus.read(batches, name)
    if as_json:
        console.print_json(status.to_dict())
    states = status.summary.states
    counts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    if status.is_finished:
        console.info(f"{name} is finished: {counts}.")
        return exit_code_of(states)
    reason = "the time is over" if is_worked_on(status, batches) else "no process works on it"
    console.warning(f"{name} is not finished, and {reason}: {counts}.")
    return EXIT_NOT_READY


def is_worked_on(status: BatchStatus, batches: "Batches") -> bool:
    """Return whether a process works on the batch, and it is not cancelled."""
    is_cancelled = batches.is_cancelled(status.batch.id or 0)
    is_alive = any(worker.seen_seconds <= worker.lease_seconds for worker in status.workers)
    return is_alive and not is_cancelled

"""`qa batch show`: the state of a batch, its workers, its limits and its budget."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.money import usd

if TYPE_CHECKING:
    from qacli.db.batches import Batches, Summary, WorkerStatus
    from qacli.db.extra_models import BatchPart
    from qacli.db.models import Batch
    from qacli.db.shared_limits import LimitStatus

WATCH_SECONDS = 2.0
WATCH_FACTOR = 10
"""The time between two reads of a large batch, as a multiple of the time that a read takes."""

ID_LENGTH = 8
"""Characters that are shown of a random id."""


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """All that is shown of a batch."""

    batch: "Batch"
    summary: "Summary"
    workers: "list[WorkerStatus]"
    limits: "list[LimitStatus]"
    reserved_usd: float
    parts: "list[BatchPart]"
    models: "dict[str, dict[str, int]]"

    @classmethod
    def read(cls, batches: "Batches", name: str) -> "BatchStatus":
        """Return the present state.

        Raises:
            NotFound: There is no batch of that name.
        """
        from qacli.db.batch_parts import BatchParts
        from qacli.db.shared_limits import SharedLimits

        batch = batches.get(name)
        batch_id = batch.id or 0
        return cls(
            batch=batch,
            summary=batches.summary(batch_id),
            workers=batches.worker_statuses(batch_id),
            limits=SharedLimits(batches.store).status(batch_id),
            reserved_usd=batches.reserved(batch_id),
            parts=BatchParts(batches.store).all(batch_id),
            models=batches.counts_by_model(batch_id, batch.models) if batch.models else {},
        )

    @property
    def is_finished(self) -> bool:
        """True if no item is left to ask."""
        states = self.summary.states
        return not (states["waiting"] or states["claimed"])

    def to_dict(self) -> dict[str, Any]:
        """Return the state for JSON."""
        from qacli.serializers import to_jsonable

        values = {key: to_jsonable(value) for key, value in asdict(self.summary).items()}
        return {
            **batch_to_dict(self.batch, self.summary.states),
            **values,
            "max_cost_usd": self.batch.max_cost_usd,
            "spent_usd": self.batch.spent_usd,
            "reserved_usd": self.reserved_usd,
            "workers": [asdict(worker) for worker in self.workers],
            "limits": [asdict(limit) for limit in self.limits],
            "parts": [part_to_dict(part) for part in self.parts],
            "models": self.models,
        }

    def lines(self) -> Iterator[str]:
        """Yield the state for a person: labels with values, then a table of the workers."""
        rows = [*self._rows()]
        width = max(len(label) for label, _ in rows) + 2
        for label, value in rows:
            yield f"{label:<{width}}{value}"
        if self.workers:
            yield ""
            yield from worker_table(self.workers)

    def _rows(self) -> Iterator[tuple[str, str]]:
        batch, summary = self.batch, self.summary
        yield "batch", batch.name
        if batch.cancelled_at is not None:
            yield "cancelled", "yes"
        yield "settings", ", ".join(f"{k}={v}" for k, v in batch.settings.items() if v)
        yield "items", f"{sum(summary.states.values())}"
        for state, count in summary.states.items():
            yield state, f"{count}"
        for model, states in self.models.items():
            counts = (f"{count} {state}" for state, count in states.items() if count)
            yield f"  {model}", ", ".join(counts)
        for kind, count in summary.errors.items():
            yield f"  {kind}", f"{count}"
        yield "tokens", f"{summary.prompt_tokens} + {summary.completion_tokens}"
        yield "cost", "unknown" if summary.cost_usd is None else usd(summary.cost_usd)
        if batch.max_cost_usd is not None:
            spent, reserved = usd(batch.spent_usd), usd(self.reserved_usd)
            yield "budget", f"{spent} spent and {reserved} reserved of {usd(batch.max_cost_usd)}"
        seconds = 0.0
        if summary.last and summary.first:
            seconds = (summary.last - summary.first).total_seconds()
        pace = f"{summary.states['answered'] / seconds:.1f} answers a second" if seconds else "-"
        yield "pace", pace
        for limit in self.limits:
            yield from _limit_rows(limit)
        for part in self.parts:
            yield f"part {part.id}", describe_part(part)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="BATCH", help="Name of the batch.")],
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the changes until the batch is finished.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a batch: counts, errors, cost, pace, limits, workers."""
    from qacli.cli.store import open_batches

    console = Console.from_context(context)
    batches = open_batches(load_settings(console), console)
    status = BatchStatus.read(batches, name)
    if watch and not status.is_finished:
        status = _watch(batches, status, console, as_json=as_json)
    if as_json:
        console.print_json(status.to_dict())
        return
    for line in status.lines():
        console.print(line)


def _watch(
    batches: "Batches", status: BatchStatus, console: Console, *, as_json: bool
) -> BatchStatus:
    """Show the state again and again until the batch is finished; return the last state.

    On a terminal the lines are replaced. JSON is one object for each state.
    """
    from contextlib import nullcontext

    from qacli.cli.formatters import live_lines

    def print_state(lines: list[str]) -> None:
        if as_json:
            console.print_json(status.to_dict())
        else:
            console.print_lines([*lines, ""])

    is_live = console.stderr.isatty() and not as_json
    with live_lines() if is_live else nullcontext(print_state) as show_lines:
        read_seconds = 0.0
        while not status.is_finished:
            show_lines([*status.lines()])
            sleep(max(WATCH_SECONDS, WATCH_FACTOR * read_seconds))
            began = monotonic()
            status = BatchStatus.read(batches, status.batch.name)
            read_seconds = monotonic() - began
    return status


def worker_table(workers: "list[WorkerStatus]") -> Iterator[str]:
    """Return the lines of a table of workers."""
    from qacli.cli.text_width import align

    rows = [("worker", "machine", "claimed", "in flight", "finished", "a second", "limit", "seen")]
    rows += [
        (
            worker.label,
            worker.machine[:ID_LENGTH],
            f"{worker.claimed}",
            f"{worker.in_flight}",
            f"{worker.finished}",
            f"{worker.finished / max(worker.running_seconds, 1.0):.1f}",
            "-" if worker.learned_rate is None else f"{worker.learned_rate:.1f}",
            f"{worker.seen_seconds:.0f} s ago"
            + (" (lease expired)" if worker.seen_seconds > worker.lease_seconds else ""),
        )
        for worker in workers
    ]
    return align(rows)


def batch_to_dict(batch: "Batch", counts: dict[str, int]) -> dict[str, object]:
    """Return a batch as JSON has it."""
    return {
        "id": batch.id,
        "name": batch.name,
        "created_at": batch.created_at.isoformat(),
        "items": batch.items,
        "settings": batch.settings,
        "states": counts,
        "cancelled": batch.cancelled_at is not None,
    }


def part_to_dict(part: "BatchPart") -> dict[str, object]:
    """Return a part at the provider's Batch API as JSON has it."""
    from qacli.serializers import to_jsonable

    names = (
        *("id", "state", "model", "items", "taken", "round", "remote_id", "remote_status"),
        *("remote_completed", "remote_failed", "error", "created_at", "submitted_at"),
    )
    return {name: to_jsonable(getattr(part, name)) for name in names}


def describe_part(part: "BatchPart") -> str:
    """Return the state of a part for a person."""
    from qacli.batch_states import PartState

    if part.state in {PartState.TAKEN, PartState.DONE}:
        return f"{part.taken:,} of {part.items:,} answers collected"
    reason = f": {part.error}" if part.error else ""
    if part.remote_id is None or part.state is PartState.FAILED:
        return f"{part.state}, {part.items:,} questions{reason}"
    done = (part.remote_completed or 0) + (part.remote_failed or 0)
    return f"{part.remote_id}, {part.remote_status}, {done:,} of {part.items:,} done{reason}"


def _limit_rows(limit: "LimitStatus") -> Iterator[tuple[str, str]]:
    parts = [
        f"{value:,.0f} {noun} a minute"
        for value, noun in (
            (limit.requests_per_minute, "requests"),
            (limit.tokens_per_minute, "tokens"),
        )
        if value is not None
    ]
    if parts:
        yield "limit", f"{', '.join(parts)} of {limit.model}, for all workers"
    if limit.pause_seconds > 0:
        yield "paused", f"{limit.pause_seconds:.0f} s more: {limit.pause_reason}"

"""The progress of a batch on stderr: live on a terminal, else a line every 10 seconds."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from qacli.cli.console import Console
from qacli.money import usd

if TYPE_CHECKING:
    from qacli.batch.progress import Progress
    from qacli.batch.runner import BatchRunner
    from qacli.db.batches import Summary

FRAME_SECONDS = 0.25
LINE_SECONDS = 10.0
SLOW_SECONDS = 5.0


class ProgressDisplay:
    """Show the progress of a batch inside an `async with` block."""

    def __init__(self, console: Console, engine: "BatchRunner") -> None:
        self._console = console
        self._engine = engine
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if not self._console.quiet:
            live = self._console.stderr.isatty()
            self._task = asyncio.create_task(self._draw() if live else self._print())
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _print(self) -> None:
        while True:
            await asyncio.sleep(LINE_SECONDS)
            self._console.warning(
                " · ".join([*facts(self._engine), *slowdown_reason(self._engine)])
            )

    async def _draw(self) -> None:
        from qacli.cli.formatters import live_lines

        with live_lines() as show:
            while True:
                show(self._lines())
                await asyncio.sleep(FRAME_SECONDS)

    def _lines(self) -> list[str]:
        progress = self._engine.progress
        part = progress.finished / max(progress.total, 1)
        width = 40
        bar = "█" * int(part * width) + "░" * (width - int(part * width))
        lines = [f"{bar} {part:6.1%}", " · ".join(facts(self._engine))]
        slowest = min(
            progress.active_items.values(), key=lambda active: active.started, default=None
        )
        if slowest is not None and (age := monotonic() - slowest.started) > SLOW_SECONDS:
            lines.append(f"slowest: {slowest.key}, {age:.0f} s, attempt {slowest.attempt}")
        return (
            lines
            + [*slowdown_reason(self._engine)]
            + [f"error: {error}" for error in progress.errors]
        )


def facts(engine: "BatchRunner") -> Iterator[str]:
    """Yield the figures of the progress, the most important first."""
    progress, elapsed = engine.progress, max(monotonic() - engine.progress.started, 0.001)
    yield f"{progress.finished:,} of {progress.total:,}"
    waiting = sum(active.retry_at is not None for active in progress.active_items.values())
    yield f"{engine.limiter.in_flight} in flight"
    if waiting:
        yield f"{waiting} retrying"
    if progress.failed:
        yield f"{progress.failed:,} failed"
    items_per_second = (progress.finished - progress.finished_before_run) / elapsed
    yield f"{items_per_second:.1f}/s"
    yield f"{progress.tokens / elapsed:.0f} tokens/s"
    if progress.cost is not None:
        yield usd(progress.cost)
    if items_per_second and progress.finished < progress.total:
        yield f"{_duration((progress.total - progress.finished) / items_per_second)} left"


def slowdown_reason(engine: "BatchRunner") -> Iterator[str]:
    """Yield the reason why no questions are sent at the moment, and until when."""
    if engine.progress.stopping:
        yield engine.progress.stopping
    elif (seconds := _seconds_to_retry(engine)) > 1:
        until = datetime.now().astimezone() + timedelta(seconds=seconds)
        day = "" if until.date() == datetime.now().astimezone().date() else f"{until:%Y-%m-%d} "
        yield f"paused until {day}{until:%H:%M:%S}: {engine.limiter.last_refusal}"
    elif engine.limiter.is_probing:
        yield f"one request at a time: {engine.limiter.last_refusal}"
    elif engine.progress.database_wait_reason:
        yield f"held up: {engine.progress.database_wait_reason}"
    elif engine.progress.item_wait_reason:
        yield engine.progress.item_wait_reason


def _seconds_to_retry(engine: "BatchRunner") -> float:
    """Return the seconds until the next attempt if all items wait for theirs; 0 otherwise."""
    times = [active.retry_at for active in engine.progress.active_items.values()]
    waiting = [time for time in times if time is not None]
    return min(waiting) - monotonic() if waiting and len(waiting) == len(times) else 0.0


def summary_of(name: str, summary: "Summary", progress: "Progress") -> Iterator[str]:
    """Yield the lines of the summary of a batch."""
    states: dict[str, Any] = {state: count for state, count in summary.states.items() if count}
    counts = ", ".join(f"{count:,} {state}" for state, count in states.items())
    duration = _duration(monotonic() - progress.started)
    yield f"{name}: {counts or 'nothing'}; {progress.finished_in_this_run:,} asked in {duration}."
    for kind, count in summary.errors.items():
        yield f"  {kind}: {count:,}"
    if summary.cost_usd is not None:
        yield f"  {usd(summary.cost_usd)}"


def _duration(seconds: float) -> str:
    rounded = round(seconds)
    if rounded < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s" if seconds < 10 else f"{rounded} s"  # noqa: PLR2004
    minutes, hours = rounded // 60 % 60, rounded // 3600
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rounded % 60} s"

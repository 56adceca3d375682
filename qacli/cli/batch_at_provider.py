"""A batch at the provider's Batch API: send it, wait for it, cancel it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from qacli.cli.batch_api_options import RemoteOptions, Rest, Via, collect_garbage_often
from qacli.cli.batch_show import BatchStatus
from qacli.cli.console import CLOSED_PIPE, Console
from qacli.cli.exit_codes import EXIT_SOME_ITEMS_FAILED, exit_code_of
from qacli.config.settings import Settings
from qacli.errors import NotConfigured

if TYPE_CHECKING:
    from qacli.batch.claims import WorkerClaims
    from qacli.batch.database import DatabaseExecutor
    from qacli.batch.progress import Progress
    from qacli.batch.remote.workflow import RemoteRun
    from qacli.batch.writer import ResultWriter
    from qacli.db.batches import Batches
    from qacli.db.models import Batch
    from qacli.provider.client import AsyncProvider
    from qacli.provider.endpoint import Endpoint

MAX_OUTAGE_SECONDS = 60.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteEnd:
    """The end of the work at the provider's Batch API.

    Attributes:
        exit_code: The exit code of the command; None if it goes on with the rest.
        is_rest_left: The rest is not asked, or there is none.
    """

    exit_code: int | None = None
    is_rest_left: bool = False


def cancel_remote(batches: "Batches", batch: "Batch", settings: Settings, console: Console) -> int:
    """Cancel the parts of a batch at the provider; return the number of batches there."""
    if not batches.open_parts().get(batch.id or 0):
        return 0
    with ExitStack() as stack:
        return BatchAtProvider.of(batches, batch, settings, console, stack).cancel()


def finish_without_asking(  # noqa: PLR0913 - what is shown at the end
    batches: "Batches",
    batch: "Batch",
    writer: "ResultWriter",
    progress: "Progress",
    console: Console,
    *,
    as_json: bool,
) -> int:
    """Write the results, print the summary and return the exit code."""
    from qacli.batch.output import ResultOutput
    from qacli.cli.progress import summary_of

    ResultOutput(batches, batch.id or 0, writer, unordered=False).write()
    summary = batches.summary(batch.id or 0)
    for line in summary_of(batch.name, summary, progress):
        console.warning(line)
    if as_json:
        console.print_json(BatchStatus.read(batches, batch.name).to_dict())
    if writer.closed:
        return CLOSED_PIPE
    states = summary.states
    if states["failed"]:
        console.warning("Ask the failed questions again with the same command and --retry-failed.")
    return exit_code_of(states)


@dataclass(frozen=True, slots=True)
class BatchAtProvider:
    """A batch that is sent through the Batch API of an endpoint.

    Attributes:
        signals: The signals that have stopped the work.
    """

    batches: "Batches"
    name: str
    endpoint: "Endpoint"
    settings: Settings
    console: Console
    signals: list[int] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        batches: "Batches",
        batch: "Batch",
        settings: Settings,
        console: Console,
        stack: ExitStack,
    ) -> "BatchAtProvider":
        """Return a batch that was begun earlier, at the configured endpoint.

        Raises:
            NotConfigured: The batch was sent to another endpoint.
        """
        from qacli.batch.run_options import address_of, require_run_options
        from qacli.cli.ask_runner import start_endpoint

        endpoint = start_endpoint(settings, batch.settings["model"], console, stack)
        address = require_run_options(batch)["endpoint"]
        if address != address_of(endpoint):
            raise NotConfigured(
                f"The batch {batch.name} is at {address}, not at {address_of(endpoint)}.",
                "Set OPENAI_BASE_URL and the key of that endpoint.",
            )
        return cls(batches, batch.name, endpoint, settings, console)

    def follow(self, remote: RemoteOptions) -> RemoteEnd:
        """Handle `--via`, before a command asks the waiting questions directly."""
        batch = self.batches.get(self.name)
        if remote.via is Via.FILE:
            command = f"qa batch requests {self.name} -o requests.jsonl"
            self.console.warning(f"{batch.items:,} questions are loaded. Write them: {command}")
            return RemoteEnd(exit_code=0)
        if remote.via is Via.DIRECT:
            return RemoteEnd()
        is_settled = self.collect(detach=remote.detach, wait=True)
        is_cancelled = self.batches.is_cancelled(batch.id or 0)
        if is_cancelled and not is_settled and not self.signals:
            self.cancel()
            self.print_detached("Cancelled by another process")
            return RemoteEnd(exit_code=EXIT_SOME_ITEMS_FAILED)
        if self.signals or not is_settled:
            self.print_detached("Stopped; the provider continues" if self.signals else "Submitted")
            return RemoteEnd(exit_code=128 + self.signals[0] if self.signals else 0)
        is_left = remote.rest is Rest.LEAVE or is_cancelled
        has_rest = self.batches.counts(batch.id or 0)["waiting"] > 0
        return RemoteEnd(is_rest_left=is_left or not has_rest)

    def print_detached(self, verb: str) -> None:
        """Print how to collect the answers of a batch that is at the provider."""
        command = f"qa batch collect {self.name}"
        self.console.write_aside(f"{verb}. Collect the answers with: {command}\n")

    def collect(self, *, detach: bool = False, wait: bool) -> bool:
        """Make parts of the waiting items that have none, and collect the ended parts.

        Returns whether all results are stored; if detached, whether every item is finished.
        """

        async def main(run: "RemoteRun") -> bool:
            batch = self.batches.get(self.name)
            remote = batch.run_options["remote"]
            if not remote["filled"]:
                await run.fill()
                options = {**batch.run_options, "remote": {**remote, "filled": True}}
                self.batches.save_run_options(batch.id or 0, options, None)
            if detach:
                await run.submit()
                counts = self.batches.counts(batch.id or 0)
                return not counts["waiting"] and not counts["claimed"]
            return await self._collect(run, batch, wait=wait)

        # The answers of cancelled parts are collected too, but not waited for.
        batch_id = self.batches.get(self.name).id or 0
        was_cancelled = self.batches.is_cancelled(batch_id)
        return bool(
            self._in_loop(main, lambda: not was_cancelled and self.batches.is_cancelled(batch_id))
        )

    async def _collect(self, run: "RemoteRun", batch: "Batch", *, wait: bool) -> bool:
        is_settled = await run.collect(wait=wait)
        is_again = batch.run_options["remote"]["rest"] == Rest.AGAIN
        is_again = is_again and not self.batches.is_cancelled(batch.id or 0)
        while is_settled and is_again and await run.next_round():
            is_settled = await run.collect(wait=wait)
        if is_settled and run.steps.refusal is not None:
            raise run.steps.refusal
        return is_settled

    def cancel(self) -> int:
        """Cancel the parts at the provider; return the number of batches there."""

        async def main(run: "RemoteRun") -> int:
            return await run.cancel()

        return self._in_loop(main) or 0

    def _in_loop(
        self,
        use: Callable[["RemoteRun"], Awaitable[T]],
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> T | None:
        """Call a function with a run, in an event loop of its own, as a worker of the batch.

        Returns its value, or None if a second signal ended it.
        """
        from qacli.batch.claims import WorkerClaims
        from qacli.batch.database import DatabaseExecutor
        from qacli.batch.progress import Progress
        from qacli.cli.preload import hide_module
        from qacli.cli.signals import stop_on_signals
        from qacli.recording.outbox import Outbox

        # For a few requests, aiohttp is not worth its 10 MB.
        with hide_module("aiohttp"):
            from qacli.provider.client import AsyncProvider

        async def main() -> T:
            database = DatabaseExecutor(Progress(0), MAX_OUTAGE_SECONDS)
            claims = WorkerClaims(
                self.batches,
                Outbox(self.settings.outbox_path),
                self.batches.get(self.name).id or 0,
                database=database,
                lease_seconds=self.settings.lease,
                on_lost=lambda _keys: None,  # it claims no items for itself
            )
            async with AsyncProvider(self.endpoint, self.settings) as provider:
                run = self._make_run(provider, claims, database)
                stop_on_signals(run.steps.stop, self.signals)
                await claims.register()
                await claims.renew()
                await claims.reclaim_stale()
                lease = asyncio.create_task(run.keep_lease(self.settings.lease, is_cancelled))
                try:
                    return await use(run)
                finally:
                    lease.cancel()
                    database.stop()
                    await claims.unregister()
                    database.close()

        collect_garbage_often()
        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            return None

    def _make_run(
        self, provider: "AsyncProvider", claims: "WorkerClaims", database: "DatabaseExecutor"
    ) -> "RemoteRun":
        from qacli.batch.remote.filling import PartFiller
        from qacli.batch.remote.limits import Pauses
        from qacli.batch.remote.setup import request_lines, result_reader
        from qacli.batch.remote.steps import PartSteps
        from qacli.batch.remote.workflow import RemoteRun
        from qacli.batch.run_options import address_of
        from qacli.db.batch_parts import BatchParts

        batch = self.batches.get(self.name)
        parts = BatchParts(self.batches.store)
        lines = request_lines(batch, self.endpoint, self.settings)
        reader = result_reader(batch, self.endpoint, self.settings)
        # With --retry-failed another model may be asked.
        options = replace(lines.options, model=self.endpoint.model)
        filler = PartFiller(
            parts,
            replace(lines, options=options),
            owner=claims.worker,
            address=address_of(self.endpoint),
            window=batch.run_options["remote"]["window"],
        )
        steps = PartSteps(
            parts=parts,
            claims=claims,
            database=database,
            api=provider.batch_api,
            filler=filler,
            reader=replace(reader, options=options),
            report=self.console.info,
            pauses=Pauses(),
        )
        return RemoteRun(
            batch.id or 0,
            parts=parts,
            claims=claims,
            database=database,
            api=provider.batch_api,
            filler=filler,
            steps=steps,
        )

"""`qa batch FILE`: ask every question of a file."""

import gc
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.console import CLOSED_PIPE, Console
from qacli.cli.formatting import usd
from qacli.cli.options import (
    Force,
    MaxTokens,
    Model,
    System,
    Target,
    TargetFormat,
    Temperature,
    Tools,
)
from qacli.cli.settings import load_settings
from qacli.config.settings import DEFAULT_MODEL, Settings
from qacli.domain import create_question
from qacli.errors import InvalidRequest
from qacli.tools import parse_tool

if TYPE_CHECKING:
    from qacli.batch.loader import Forecast
    from qacli.batch.options import Progress
    from qacli.batch.runner import BatchRunner
    from qacli.db.batches import Batches
    from qacli.provider.endpoint import Endpoint

PART_FAILED = 8
RETRIES = 10
DEFAULT_JOBS = 32
COLLECT_AFTER = 5_000
"""So many new objects until Python looks for those that refer to each other and to nothing else."""

OTHER_FILES = 100
"""How many are open besides the connections to the provider, and with room to spare."""


def run(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File with the questions; - reads standard input.")
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the batch (default: from the file and the options)."
        ),
    ] = None,
    output: Target = None,
    output_format: TargetFormat = None,
    force: Force = False,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FORMAT",
            help="Format of FILE: txt, csv, tsv or jsonl (default: by its name).",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--question", metavar="TEXT", help="The question, with {column} in it."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with the question.")
    ] = None,
    quotes: Annotated[
        bool | None,
        typer.Option(
            "--quotes/--no-quotes",
            help="Whether fields can be quoted (default: in CSV but not in TSV).",
        ),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Record invalid lines as failed instead of stopping."),
    ] = False,
    unordered: Annotated[
        bool,
        typer.Option("--unordered", help="Write results as they arrive, not in the order of FILE."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask failed items again.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Maximum concurrent requests.")
    ] = DEFAULT_JOBS,
    rpm: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", min=0.001, help="Maximum requests per minute, for each process."
        ),
    ] = None,
    tpm: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", min=0.001, help="Maximum tokens per minute, for each process."
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(metavar="N", min=0, help="Retries for each item.")
    ] = RETRIES,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, max=1e7, help="Time limit for one attempt."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="USD", min=0, help="Budget in US dollars, for each process."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count the questions and estimate the cost, without asking."
        ),
    ] = False,
    model: Model = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    tools: Tools = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no progress and no summary.")
    ] = False,
) -> int:
    """Ask every question in a file once.

    Running the same command again asks only the questions without an answer.
    """
    from contextlib import ExitStack

    from qacli.batch import reader
    from qacli.batch.loader import BatchSource, Forecast
    from qacli.batch.options import BatchOptions, Progress
    from qacli.batch.writer import ResultWriter, format_of, kept_output
    from qacli.cli.ask_runner import start_endpoint
    from qacli.cli.store import open_batches
    from qacli.cost import Pricing
    from qacli.db.batches import THREADS
    from qacli.recording.outbox import Outbox

    console = Console.from_context(context)
    console.quiet = quiet
    settings = load_settings(console)
    path = None if file == "-" else Path(file)
    source = BatchSource(
        path=path,
        form=reader.format_of(path, input_format),
        template=template,
        column=column,
        skip_bad=skip_bad,
        quotes=quotes,
    )
    reader.quotes_of(source.form, quotes)
    prices = Pricing.load(settings.prices_path)
    if dry_run:
        forecast = Forecast.of(
            source.items(),
            model=model or settings.model or DEFAULT_MODEL,
            system=(settings.system if system is None else system) or "",
            max_tokens=max_tokens,
            prices=prices,
        )
        return _tell_forecast(forecast, console)
    with ExitStack() as stack:
        found = start_endpoint(settings, model, console, stack)
        params = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "tools": [parse_tool(tool) for tool in tools or ()] or None,
        }
        shaping: dict[str, Any] = {
            "model": found.model,
            "system": settings.system if system is None else system or None,
            "params": {key: value for key, value in params.items() if value is not None},
        }
        # What no question can have is said before anything is begun.
        create_question(
            "?", model=found.model, system=None, temperature=temperature, max_tokens=max_tokens
        )
        result_form = format_of(output, output_format)
        batches = open_batches(settings, console, connections=THREADS)
        told = {**shaping, "template": template, "column": column}
        if quotes is not None and quotes != reader.quotes_of(source.form, None):
            told["quotes"] = quotes
        named = name or source.name_with(told)
        earlier = batches.find(named)
        out = ResultWriter(
            output,
            result_form,
            stdout=console,
            source=path,
            batch_id=None if earlier is None else earlier.id,
            outputs=None if earlier is None else earlier.outputs,
            force=force,
        )
        stack.callback(out.close)
        told["input"] = source.form
        if source.is_loaded(earlier):
            batch = batches.begin(named, told)
        else:
            batch = source.spooled(stack).load(batches, named, told, console.info)
        batches.resume(batch.id or 0, retry_failed=retry_failed)
        plan = BatchOptions(
            batch_id=batch.id or 0,
            **shaping,
            jobs=_affordable(jobs, console),
            retries=retries,
            timeout=timeout or settings.timeout,
            rpm=rpm,
            tpm=tpm,
            max_cost=max_cost,
            unordered=unordered,
        )
        so_far = batches.summary(plan.batch_id)
        if max_cost is not None and not prices.has_price(plan.model):
            raise InvalidRequest(
                f"The model {plan.model} has no price, so --max-cost cannot hold.",
                f"Add it to {settings.prices_path}.",
            )
        stack.enter_context(kept_output(batches, batch.id or 0, out))
        progress = Progress(
            batch.items or 0,
            done=so_far.states["answered"],
            failed=so_far.states["failed"],
            cost=so_far.cost_usd,
        )
        parts = {
            "batches": batches,
            "outbox": Outbox(settings.outbox_path),
            "plan": plan,
            "prices": prices,
            "output": out,
            "progress": progress,
        }
        engine, signals = _ask(parts, found, settings, console)
        again = shlex.join(["qa", *sys.argv[1:]])
        return _tell(
            engine,
            signals,
            batches=batches,
            name=batch.name,
            progress=progress,
            again=again,
            retry=again if retry_failed else f"{again} --retry-failed",
            console=console,
        )


def _tell_forecast(forecast: "Forecast", console: Console) -> int:
    """`--dry-run`: what it would take."""
    from qacli.cost import DATE_SUFFIX

    console.print(f"questions   {forecast.questions:,}")
    console.print(f"tokens      about {forecast.prompt:,} + {forecast.completion:,}")
    console.print(
        "cost        unpriced"
        if forecast.cost is None
        else f"cost        about {usd(forecast.cost)}, at prices of {DATE_SUFFIX}"
    )
    return 0


def _affordable(jobs: int, console: Console) -> int:
    """As many jobs as files may be open, after asking for more of them."""
    from qacli.rlimits import raise_nofile_limit

    wanted = jobs + OTHER_FILES
    allowed = raise_nofile_limit(wanted)
    if allowed == wanted:
        return jobs
    console.warning(f"Only {allowed - OTHER_FILES} jobs: this system allows {allowed} open files.")
    return max(allowed - OTHER_FILES, 1)


def _ask(
    engine_parts: dict[str, Any], found: "Endpoint", settings: Settings, console: Console
) -> tuple["BatchRunner | None", list[int]]:
    """Run the engine in an event loop of its own, with its progress shown.

    Returns the engine, or None where a second signal ended it at once, and the signals.
    """
    import asyncio

    from qacli.batch.runner import BatchRunner
    from qacli.cli.progress import ProgressDisplay
    from qacli.cli.signals import stop_on_signals
    from qacli.provider.client import AsyncProvider

    signals: list[int] = []
    plan = engine_parts["plan"]

    async def main() -> BatchRunner:
        async with AsyncProvider(found, settings, connections=plan.jobs) as provider:
            engine = BatchRunner(provider=provider, **engine_parts)
            notice = f"stopping; {plan.grace:g} s for what is in flight"
            stop_on_signals(lambda: engine.stop(None, notice), signals)
            async with ProgressDisplay(console, engine):
                await engine.run()
            return engine

    # A run may be long: what it leaves behind is looked for, but not among the modules, which stay.
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    try:
        return asyncio.run(main()), signals
    except asyncio.CancelledError:
        return None, signals


def _tell(  # noqa: PLR0913 - what there is to tell
    engine: "BatchRunner | None",
    signals: list[int],
    *,
    batches: "Batches",
    name: str,
    progress: "Progress",
    again: str,
    retry: str,
    console: Console,
) -> int:
    """Say what came of the batch and how to go on; returns the exit code."""
    from qacli.batch.runner import READER_GONE
    from qacli.cli.progress import summary_of

    if engine is None:
        console.warning(f"Stopped at once; nothing is lost. Go on with: {again}")
        return 128 + signals[0]
    for line in summary_of(name, batches.summary(engine.plan.batch_id), progress):
        console.warning(line)
    if signals:
        console.warning(f"Stopped. Go on with: {again}")
        return 128 + signals[0]
    if engine.stopped is not None:
        raise engine.stopped
    counts = batches.counts(engine.plan.batch_id)
    if progress.stopping == READER_GONE:
        return CLOSED_PIPE
    if progress.stopping:
        console.warning(f"Stopped: {progress.stopping}. Go on with: {again}")
    elif counts["failed"]:
        console.warning(f"Ask what has failed again with: {retry}")
    return 0 if counts["answered"] == sum(counts.values()) else PART_FAILED

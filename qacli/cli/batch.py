"""`qa batch`: many questions from a file, each a record like any other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from qacli.cli.options import AsJson, Quiet
from qacli.cli.terminal import Terminal
from qacli.config import Settings, load_settings
from qacli.errors import Interrupted, InvalidRequest

if TYPE_CHECKING:
    from qacli.batch.plan import Plan, Progress
    from qacli.endpoint import Endpoint
    from qacli.models import Batch
    from qacli.store.batches import Batches

EPILOG = (
    "\b\nExamples:\n"
    "  qa batch questions.txt -o answers.jsonl\n"
    '  qa batch words.csv --template "Translate to French: {text}" -o french.csv\n'
    "  zcat questions.jsonl.gz | qa batch - --name nightly --jobs 64 --rpm 600\n"
    "  qa batch questions.txt --dry-run\n"
    "  qa batch list; qa batch show nightly; qa batch results nightly"
)
PART_FAILED = 8
RETRIES = 10
DEFAULT_JOBS = 32
LOADED_AT_ONCE = 1000


class FileOrCommand(TyperGroup):
    """`qa batch FILE` is `qa batch run FILE`: what is no subcommand is a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's context
        """Put the command in front of a file and its options."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(
    cls=FileOrCommand, rich_markup_mode=None, no_args_is_help=True, epilog=EPILOG
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="batch", help="Ask every question in a file, each once.")


Name = Annotated[str, typer.Argument(help="The batch's name.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", "-f", help="jsonl, csv, openai or parquet.")
]
Target = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where the results go; else stdout.")
]


@commands.command(epilog=EPILOG)
def run(  # noqa: PLR0913 - one parameter an option
    file: Annotated[str, typer.Argument(help="The questions; - is standard input.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="The batch's name; else from file and settings.")
    ] = None,
    output: Target = None,
    output_format: FormatOption = None,
    input_format: Annotated[
        str | None, typer.Option("--input", help="txt, csv, tsv or jsonl; else by the file's name.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", "-t", help="The question, with {column} in it.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column that is the question.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Record lines that cannot be used, and go on.")
    ] = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Write results as they come.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what has failed.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="The most in flight.")
    ] = DEFAULT_JOBS,
    rpm: Annotated[
        float | None, typer.Option(min=0.001, help="The most requests a minute.")
    ] = None,
    tpm: Annotated[float | None, typer.Option(min=0.001, help="The most tokens a minute.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often to ask an item again.")] = RETRIES,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e7, help="Seconds for one attempt, body included."),
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="US dollars not to be passed.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and estimate; ask nothing.")
    ] = False,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model to ask.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.")] = None,
    quiet: Quiet = False,
) -> int:
    """Ask every question of a file; the same command again asks only what has no answer yet."""
    from contextlib import ExitStack

    from qacli.batch import items
    from qacli.batch.output import Output, format_of
    from qacli.cli.ask import started_endpoint

    terminal = Terminal.of_process(quiet=quiet)
    settings = load_settings()
    path = None if file == "-" else Path(file)
    form = items.format_of(path, input_format)
    reading: dict[str, Any] = {
        "form": form,
        "template": template,
        "column": column,
        "skip_bad": skip_bad,
    }
    if dry_run:
        from qacli import endpoint

        found = endpoint.resolve(settings, model)
        return _estimate(items.read(path, **reading), found.model, max_tokens, settings, terminal)
    with ExitStack() as stack:
        found = started_endpoint(settings, model, terminal, stack)
        params = {"temperature": temperature, "max_tokens": max_tokens}
        shaping: dict[str, Any] = {
            "model": found.model,
            "system": settings.system if system is None else system or None,
            "params": {key: value for key, value in params.items() if value is not None},
        }
        batches = _open(settings, terminal)
        batch = batches.begin(
            name or _default_name(path, {**shaping, "template": template, "column": column}),
            {**shaping, "template": template, "column": column, "input": form},
        )
        total = _load(batches, batch, path, reading, terminal)
        batches.resume(batch.id or 0, retry_failed=retry_failed)
        out = stack.enter_context(Output(output, format_of(output, output_format)))
        from qacli.batch.plan import Plan, Progress

        plan = Plan(
            batch_id=batch.id or 0,
            **shaping,
            jobs=_affordable(jobs, terminal),
            retries=retries,
            timeout=timeout or settings.timeout,
            rpm=rpm,
            tpm=tpm,
            max_cost=max_cost,
            unordered=unordered,
        )
        counts = batches.counts(plan.batch_id)
        progress = Progress(total, done=counts["answered"], failed=counts["failed"])
        again = f"qa batch {file}" + (f" --name {name}" if name else "")
        return _ask(batches, settings, found, plan, progress, out, terminal, batch.name, again)


@commands.command("list")
def list_batches(*, as_json: AsJson = False) -> None:
    """List the batches, oldest first."""
    terminal = Terminal.of_process()
    batches = _open(load_settings(), terminal)
    rows = [(batch, batches.counts(batch.id or 0)) for batch in batches.all()]
    if as_json:
        terminal.json([_described(batch, counts) for batch, counts in rows])
        return
    if not rows:
        terminal.note("There is no batch yet. Begin one: qa batch questions.txt")
    for batch, counts in rows:
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        when = f"{batch.created_at.astimezone():%Y-%m-%d %H:%M}"
        terminal.line(f"{batch.name}\t{when}\t{states or 'empty'}")


@commands.command()
def show(name: Name, *, as_json: AsJson = False) -> None:
    """Show what has come of a batch: counts, errors by kind, tokens, cost, pace."""
    from dataclasses import asdict

    from qacli.exchange import plain

    terminal = Terminal.of_process()
    batches = _open(load_settings(), terminal)
    batch = batches.get(name)
    summary = batches.summary(batch.id or 0)
    if as_json:
        described = {key: plain(value) for key, value in asdict(summary).items()}
        terminal.json({**_described(batch, summary.states), **described})
        return
    seconds = (
        (summary.last - summary.first).total_seconds() if summary.last and summary.first else 0
    )
    lines = [
        ("batch", batch.name),
        ("settings", ", ".join(f"{k}={v}" for k, v in batch.settings.items() if v)),
        ("items", f"{sum(summary.states.values())}"),
        *((state, f"{count}") for state, count in summary.states.items()),
        *((f"  {kind}", f"{count}") for kind, count in summary.errors.items()),
        ("tokens", f"{summary.prompt_tokens} + {summary.completion_tokens}"),
        ("cost", "unpriced" if summary.cost_usd is None else f"{summary.cost_usd:.4f} USD"),
        (
            "pace",
            f"{summary.states['answered'] / seconds:.1f} answers a second" if seconds else "-",
        ),
    ]
    for label, value in lines:
        terminal.line(f"{label:<14}{value}")


@commands.command()
def cancel(name: Name) -> None:
    """Tell whoever works on a batch to stop asking; the same command again goes on."""
    terminal = Terminal.of_process()
    batches = _open(load_settings(), terminal)
    batches.cancel(batches.get(name).id or 0)
    terminal.line(f"{name} is cancelled; a process that works on it stops within seconds.")


@commands.command()
def results(name: Name, *, output: Target = None, output_format: FormatOption = None) -> None:
    """Write what a batch has so far, in the order of its items."""
    from qacli.batch.output import Output, format_of

    terminal = Terminal.of_process()
    batches = _open(load_settings(), terminal)
    batch = batches.get(name)
    with Output(output, format_of(output, output_format)) as out:
        for page in batches.all_settled(batch.id or 0):
            out.write(page)


def _open(settings: Settings, terminal: Terminal) -> "Batches":
    from qacli.cli.history import open_history
    from qacli.store.batches import Batches

    return Batches(open_history(settings, terminal))


def _described(batch: "Batch", counts: dict[str, int]) -> dict[str, object]:
    return {
        "id": batch.id,
        "name": batch.name,
        "created_at": batch.created_at.isoformat(),
        "items": batch.items,
        "settings": batch.settings,
        "states": counts,
        "cancelled": batch.cancelled_at is not None,
    }


def _default_name(path: Path | None, shaping: dict[str, Any]) -> str:
    import json
    from hashlib import sha256

    if path is None:
        raise InvalidRequest("Standard input has no name to go on from.", "Give one: --name NAME")
    told = json.dumps([str(path.absolute()), shaping], sort_keys=True, default=str)
    return f"{path.name.partition('.')[0]}-{sha256(told.encode()).hexdigest()[:8]}"


def _load(
    batches: "Batches",
    batch: "Batch",
    path: Path | None,
    reading: dict[str, Any],
    terminal: Terminal,
) -> int:
    """Bring the items into the database, unless the file is the one that is there already."""
    from itertools import islice

    from qacli.batch import items

    source = _source(path)
    if batch.items is not None and source and batch.source == source:
        return batch.items
    count, read = 0, items.read(path, **reading)
    # All of it is looked at before anything is asked or kept: a bad line is said at once.
    if path is not None and path.is_file():
        for _ in items.read(path, **reading):
            pass
    while page := list(islice(read, LOADED_AT_ONCE)):
        batches.add(
            batch.id or 0,
            [{"position": i.position, "key": i.key, "payload": i.stored()} for i in page],
        )
        count += len(page)
        if count % 100_000 == 0:
            terminal.note(f"{count:,} questions read.")
    if not count:
        raise InvalidRequest("There is no question in the file.", "Give it one a line.")
    batches.loaded(batch.id or 0, count, source)
    return count


def _source(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    status = path.stat()
    return {"path": str(path.absolute()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _estimate(
    read: Any,  # noqa: ANN401 - the items, as they come
    model: str,
    max_tokens: int | None,
    settings: Settings,
    terminal: Terminal,
) -> int:
    """`--dry-run`: what it would take."""
    from qacli.prices import DATE, Prices, estimated_tokens

    prices, count, prompt, completion, cost = Prices.load(settings.prices_path), 0, 0, 0, 0.0
    priced = True
    for item in read:
        count += 1
        params = item.payload.get("params", {})
        asked = estimated_tokens(item.payload["question"] + (item.payload.get("system") or ""))
        answered = int(params.get("max_tokens") or max_tokens or asked)
        one = prices.cost(params.get("model", model), asked, answered)
        prompt, completion, priced = (
            prompt + asked,
            completion + answered,
            priced and one is not None,
        )
        cost += one or 0.0
    terminal.line(f"questions   {count:,}")
    terminal.line(f"tokens      about {prompt:,} + {completion:,}")
    terminal.line(
        f"cost        about {cost:.2f} USD, at prices of {DATE}"
        if priced
        else "cost        unpriced"
    )
    return 0


def _affordable(jobs: int, terminal: Terminal) -> int:
    """As many jobs as files may be open, after asking for more of them."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = jobs + 100
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return jobs
    terminal.warn(f"Only {soft - 100} jobs: this system allows {soft} open files.")
    return max(soft - 100, 1)


def _ask(  # noqa: PLR0913, PLR0917 - the parts of a run
    batches: "Batches",
    settings: Settings,
    found: "Endpoint",
    plan: "Plan",
    progress: "Progress",
    out: Any,  # noqa: ANN401 - the open output
    terminal: Terminal,
    name: str,
    again: str,
) -> int:
    """Run the batch, show its progress, say what came of it; returns the exit code."""
    import asyncio
    import signal
    from dataclasses import replace

    from qacli.batch.engine import Engine
    from qacli.cli.progress import Display, summary_of
    from qacli.outbox import Outbox
    from qacli.prices import Prices
    from qacli.provider import AsyncProvider

    interrupted: list[int] = []

    async def main() -> Engine:
        async with AsyncProvider(
            found, replace(settings, timeout=plan.timeout), connections=plan.jobs
        ) as provider:
            engine = Engine(
                batches=batches,
                outbox=Outbox(settings.outbox_path),
                provider=provider,
                plan=plan,
                prices=Prices.load(settings.prices_path),
                output=out,
                progress=progress,
            )
            task = asyncio.current_task()

            def on_signal(number: int) -> None:
                interrupted.append(number)
                if len(interrupted) > 1 and task is not None:
                    task.cancel()
                engine.stop(None, f"stopping; {plan.grace:g} s for what is in flight")

            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, on_signal, number)
            async with Display(terminal, engine):
                await engine.run()
            return engine

    try:
        engine = asyncio.run(main())
    except asyncio.CancelledError:
        terminal.warn(f"Stopped at once; nothing is lost. Go on with: {again}")
        return Interrupted.exit_code
    if not terminal.quiet:
        for line in summary_of(name, batches.summary(plan.batch_id), progress):
            terminal.warn(line)
    if interrupted:
        terminal.warn(f"Stopped. Go on with: {again}")
        return 128 + interrupted[0]
    if engine.stopped is not None:
        raise engine.stopped
    counts = batches.counts(plan.batch_id)
    if progress.stopping:
        terminal.warn(f"Stopped: {progress.stopping}. Go on with: {again}")
    elif counts["failed"]:
        terminal.warn(f"Ask what has failed again with: {again} --retry-failed")
    return 0 if counts["answered"] == progress.total else PART_FAILED

"""`qa batch FILE`: ask every question of a file."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.batch.options import DEFAULT_JOBS, DEFAULT_RETRIES
from qacli.batch.source_options import BatchInputOptions, batch_settings_of, several_models
from qacli.cli.batch_api_options import RemoteOptions, with_remote_options
from qacli.cli.batch_asking import ask_batch, limit_jobs, report
from qacli.cli.batch_input_options import input_path, with_input_options
from qacli.cli.console import Console
from qacli.cli.options import (
    AsJson,
    Force,
    Join,
    Models,
    System,
    Target,
    TargetFormat,
    with_model_options,
)
from qacli.cli.settings import load_settings
from qacli.config.defaults import DEFAULT_MODEL, OPENAI_BASE_URL
from qacli.domain import create_question
from qacli.errors import InvalidRequest
from qacli.model_options import merge_params
from qacli.money import usd
from qacli.services.answer_schema import answer_schema

if TYPE_CHECKING:
    from qacli.batch.loader import BatchSource, Forecast
    from qacli.cost import Pricing
    from qacli.db.batches import Batches
    from qacli.db.models import Batch


@with_remote_options
@with_model_options
@with_input_options
def run(  # noqa: PLR0913, PLR0915 - one parameter an option, and one step after the other
    context: typer.Context,
    file: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="File with the questions, a directory or a pattern of text files, or - for "
            "standard input.",
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="BATCH", help="Name of the batch (default: from the file and the options)."
        ),
    ] = None,
    output: Target = None,
    output_format: TargetFormat = None,
    join: Join = None,
    force: Force = False,
    reading: BatchInputOptions,
    unordered: Annotated[
        bool,
        typer.Option("--unordered", help="Write results as they arrive, not in the order of FILE."),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Ask failed items again, with -m by another model."),
    ] = False,
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Ask rows again that have changed since the first run."),
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Maximum concurrent requests.")
    ] = DEFAULT_JOBS,
    rpm: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", min=0.001, help="Maximum requests per minute, of all processes."
        ),
    ] = None,
    tpm: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", min=0.001, help="Maximum tokens per minute, of all processes."
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(metavar="N", min=0, help="Retries for each item.")
    ] = DEFAULT_RETRIES,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, max=1e7, help="Time limit for one attempt."),
    ] = None,
    max_failures: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Stop after N equal refusals of the provider in a row; 0: never.",
        ),
    ] = 20,
    max_wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="Stop if the provider asks to wait for longer."
        ),
    ] = 3600,
    max_outage: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Stop if the provider or the database is away for longer.",
        ),
    ] = 60,
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="USD", min=0, help="Budget of the batch in US dollars."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count the questions and estimate the cost, without asking."
        ),
    ] = False,
    models: Models = None,
    system: System = None,
    params: dict[str, Any],
    as_json: AsJson = False,
    remote: RemoteOptions,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no progress and no summary.")
    ] = False,
) -> int:
    """Ask every question in a file once.

    Running the same command again asks only the questions without an answer. With several models
    each question is asked of each.
    """
    from contextlib import ExitStack

    from qacli.batch.claims import reclaim_stale
    from qacli.batch.loader import Forecast
    from qacli.batch.options import BatchOptions
    from qacli.batch.progress import Progress
    from qacli.batch.result_table import table_of
    from qacli.batch.run_options import check_budget, run_options_of
    from qacli.batch.writer import ResultWriter, format_of, recorded_output
    from qacli.cli.ask_runner import start_endpoint
    from qacli.cli.batch_at_provider import BatchAtProvider, finish_without_asking
    from qacli.cli.batch_show import BatchStatus
    from qacli.cli.store import open_batches
    from qacli.cost import Pricing
    from qacli.db.batches import THREADS
    from qacli.provider.endpoint import host_of
    from qacli.recording.outbox import Outbox

    console = Console.from_context(context)
    console.quiet = quiet
    settings = load_settings(console)
    path = input_path(file)
    result_form = format_of(output, output_format)
    if as_json and output is not None and str(output) == "-":
        raise InvalidRequest(
            "The summary of --json and the results would both go to standard output.",
            "Name a file for the results: -o FILE",
        )
    # With --json standard output is the summary alone.
    output = Path(os.devnull) if as_json and output is None else output
    prompt_template = reading.load_template(settings)
    names = models or ([prompt_template.model] if prompt_template.model else [])
    source = reading.to_source(path, prompt_template, several_models(settings, names))
    schema = answer_schema(reading.schema, prompt_template, settings)
    form = {} if schema is None else {"response_format": schema.response_format}
    params = merge_params(form, params, prompt_template.params)
    model = names[0] if names else None
    if system is None and source.system_template is None:
        system = prompt_template.system
    system = (settings.system if system is None else system) or None
    prices = Pricing.load(settings.prices_path)
    if dry_run:
        forecast = Forecast.of(
            source.items(),
            model=settings.model_name(model) or DEFAULT_MODEL,
            system=system or "",
            max_tokens=params.get("max_tokens"),
            prices=prices,
            endpoint=host_of(settings.base_url or OPENAI_BASE_URL),
        )
        return _print_forecast(forecast, prices, console, as_json=as_json)
    with ExitStack() as stack:
        endpoint = remote.offline_endpoint(settings, model) or start_endpoint(
            settings, model, console, stack
        )
        answer_settings: dict[str, Any] = {
            "model": endpoint.model,
            "system": system,
            "params": params,
        }
        # Refuse invalid options before anything is begun.
        create_question("?", model=endpoint.model, system=None, params=params)
        batches = open_batches(settings, console, connections=THREADS)
        batch_settings = batch_settings_of(answer_settings, source)
        batch_name = name or source.default_batch_name(batch_settings)
        existing = batches.find(batch_name)
        if retry_failed and models:
            existing = _keep_model(batches, source, name, existing, batch_settings)
            batch_name = existing.name if existing else batch_name
        remote.check(batches, existing)
        writer = ResultWriter(
            output,
            result_form,
            stdout=console,
            source=path,
            batch_id=None if existing is None else existing.id,
            outputs=None if existing is None else existing.outputs,
            table=table_of(existing, result_form, join=join),
            force=force,
        )
        stack.callback(writer.close)
        batch_settings["input"] = source.form
        if source.is_loaded(existing):
            batch = batches.begin(batch_name, batch_settings)
        else:
            if existing is not None:
                # Rows can be moved only while no process has claimed any.
                reclaim_stale(batches, Outbox(settings.outbox_path), existing.id or 0)
            batch = source.with_temporary_copy(stack).load(
                batches, batch_name, batch_settings, console.info, ask_changed=changed
            )
        writer.set_table(table_of(batch, result_form, join=join))
        batches.resume(batch.id or 0, retry_failed=retry_failed)
        options = BatchOptions(
            batch_id=batch.id or 0,
            **answer_settings,
            aliases=settings.aliases,
            default_params=settings.default_params,
            jobs=limit_jobs(jobs, console),
            retries=retries,
            timeout=timeout or settings.timeout,
            rpm=rpm,
            tpm=tpm,
            lease_seconds=settings.lease,
            max_failures=max_failures,
            max_wait=max_wait,
            max_outage=max_outage,
            unordered=unordered,
        )
        budget = batch.max_cost_usd if max_cost is None else max_cost
        check_budget(budget, source.models or (options.model,), endpoint, prices, settings)
        run_options = run_options_of(options, endpoint, settings, jobs=jobs) | remote.to_dict()
        batches.save_run_options(options.batch_id, run_options, max_cost)
        remote_run = BatchAtProvider(batches, batch.name, endpoint, settings, console)
        end = remote_run.follow(remote)
        if end.exit_code is not None:
            return end.exit_code
        summary = batches.summary(options.batch_id)
        stack.enter_context(recorded_output(batches, batch.id or 0, writer))
        progress = Progress(
            batch.items or 0,
            done=summary.states["answered"],
            failed=summary.states["failed"],
            cost=summary.cost_usd,
        )
        if end.is_rest_left:
            return finish_without_asking(batches, batch, writer, progress, console, as_json=as_json)
        parts = {
            "batches": batches,
            "outbox": Outbox(settings.outbox_path),
            "options": options,
            "prices": prices,
            "output": writer,
            "progress": progress,
        }
        runner, signals = ask_batch(parts, endpoint, settings, console)
        if as_json:
            console.print_json(BatchStatus.read(batches, batch.name).to_dict())
        command = shlex.join(["qa", *sys.argv[1:]])
        return report(
            runner,
            signals,
            batches=batches,
            name=batch.name,
            progress=progress,
            command=command,
            retry=command if retry_failed else f"{command} --retry-failed",
            console=console,
        )


def _keep_model(
    batches: "Batches",
    source: "BatchSource",
    name: str | None,
    existing: "Batch | None",
    settings: dict[str, Any],
) -> "Batch | None":
    """Return the batch whose failed items another model will answer."""
    if existing is None and not name and source.path is not None:
        existing = batches.find_begun(source.location, {**settings, "input": source.form})
    if existing is not None:
        settings["model"] = existing.settings["model"]
    return existing


def _print_forecast(
    forecast: "Forecast", prices: "Pricing", console: Console, *, as_json: bool
) -> int:
    """Print the estimate of `--dry-run`."""
    if as_json:
        console.print_json(
            {
                "items": forecast.questions,
                "prompt_tokens": forecast.prompt,
                "completion_tokens": forecast.completion,
                "cost_usd": forecast.cost,
            }
        )
        return 0
    console.print(f"questions   {forecast.questions:,}")
    console.print(f"tokens      about {forecast.prompt:,} + {forecast.completion:,}")
    console.print(
        "cost        unknown"
        if forecast.cost is None
        else f"cost        about {usd(forecast.cost)}, at prices of {prices.generated}"
    )
    return 0

"""`qa batch`: many questions from a file, each a record like any other."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qacli.cli.batch_at_provider import cancel_remote
from qacli.cli.batch_collect import collect
from qacli.cli.batch_compare import EPILOG as COMPARE_EPILOG
from qacli.cli.batch_compare import compare
from qacli.cli.batch_files import requests, take
from qacli.cli.batch_results import results, wait
from qacli.cli.batch_run import run
from qacli.cli.batch_show import batch_to_dict, show
from qacli.cli.batch_work import work
from qacli.cli.command import App, Group, write_parameters
from qacli.cli.console import Console
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.cli.store import count_noun, open_batches
from qacli.suggestions import similar_name

if TYPE_CHECKING:
    from qacli.db.models import Batch

EPILOG = (
    "\b\nExamples:\n"
    "  qa batch questions.txt -o answers.jsonl\n"
    '  qa batch words.csv --question "Translate to French: {text}" -o french.csv\n'
    "  qa batch reviews.csv -t rate -m gpt-6-luna -m gpt-6-sol -o rated.csv\n"
    "  zcat questions.jsonl.gz | qa batch - --name nightly --jobs 64 --rpm 600\n"
    "  qa batch questions.txt --dry-run\n"
    "  qa batch list; qa batch show nightly; qa batch wait nightly\n"
    "  qa batch results nightly --only failed -o failed.csv"
)


class FileOrCommand(Group):
    """A group that reads `qa batch FILE` as `qa batch run FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's context
        """Insert `run` before a file and its options."""
        words = {*self.commands, "--help", "-h"}
        if args and args[0] not in words and not self._is_mistyped(args[0]):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write the options of `qa batch FILE` as well."""
        super().format_options(ctx, formatter)
        options = (item for item in self.commands["run"].params if item.opts[0].startswith("-"))
        write_parameters(options, formatter, "Options of qa batch FILE")

    def _is_mistyped(self, word: str) -> bool:
        """Return True if the word is similar to a command and not the name of a file."""
        from pathlib import Path

        return (
            word.isalpha()
            and not Path(word).exists()
            and similar_name(word, self.commands) is not None
        )


commands = App(
    cls=FileOrCommand,
    no_args_is_help=True,
    subcommand_metavar="FILE|COMMAND [ARGS]...",
    epilog=EPILOG,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="batch", help="Ask every question in a file once.")


Name = Annotated[str, typer.Argument(metavar="BATCH", help="Name of the batch.")]
commands.command(epilog=EPILOG)(run)
commands.command()(work)
commands.command()(show)
commands.command()(results)
commands.command(epilog=COMPARE_EPILOG)(compare)
commands.command()(wait)
commands.command()(requests)
commands.command()(take)
commands.command()(collect)


@commands.command("list")
def list_batches(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the batches, oldest first."""
    from qacli.cli.text_width import align

    console = Console.from_context(context)
    batches = open_batches(load_settings(console), console)
    rows = [(batch, batches.counts(batch.id or 0)) for batch in batches.all()]
    parts = batches.open_parts()
    if as_json:
        documents = [batch_to_dict(batch, counts) for batch, counts in rows]
        for document, (batch, _) in zip(documents, rows, strict=True):
            document["open_parts"] = parts.get(batch.id or 0, 0)
        console.print_json(documents)
        return
    if not rows:
        console.info("There is no batch. Start one: qa batch questions.txt")
    cells = [_row(batch, counts, parts.get(batch.id or 0, 0)) for batch, counts in rows]
    # A pipe gets tabs, as with `qa list`.
    for line in align(cells) if console.is_terminal else map("\t".join, cells):
        console.print(line)


@commands.command()
def cancel(context: typer.Context, name: Name) -> None:
    """Stop all processes that work on a batch.

    Running the same qa batch command again continues it.
    """
    console = Console.from_context(context)
    settings = load_settings(console)
    batches = open_batches(settings, console)
    batch = batches.get(name)
    batches.cancel(batch.id or 0)
    number = cancel_remote(batches, batch, settings, console)
    console.print(f"{name} is cancelled; processes that work on it stop within seconds.")
    if number:
        console.print(f"Collect the provider's answers: qa batch collect {name}")


@commands.command("rm")
def remove(
    context: typer.Context,
    name: Name,
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also while it is asked, or if answers at the provider's Batch API are lost.",
        ),
    ] = False,
) -> None:
    """Remove a batch; its records stay in the history."""
    from qacli.batch.claims import refuse_open_parts, refuse_workers
    from qacli.recording.outbox import Outbox

    console = Console.from_context(context)
    settings = load_settings(console)
    batches = open_batches(settings, console)
    batch = batches.get(name)
    if not force:
        refuse_open_parts(batches, batch)
        refuse_workers(batches, Outbox(settings.outbox_path), batch)
    batches.cancel(batch.id or 0)
    batches.remove(batch.id or 0)
    console.print(f"{name} is removed; its records stay in the history.")


def _row(batch: "Batch", counts: dict[str, int], parts: int) -> tuple[str, str, str]:
    """Return the name, the time and the states of a batch, for a list."""
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    states = states or ("empty" if batch.items is not None else "not loaded; run it again")
    if parts:
        states += f"; {count_noun(parts, 'part')} at the provider"
    cancelled = "" if batch.cancelled_at is None else " (cancelled)"
    return batch.name, f"{batch.created_at.astimezone():%Y-%m-%d %H:%M}", states + cancelled

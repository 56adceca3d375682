"""`qa batch requests` and `qa batch take`: the Batch API by files, without a network."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from qacli.cli.batch_api_options import collect_garbage_often
from qacli.cli.console import CLOSED_PIPE, Console
from qacli.cli.exit_codes import exit_code_of
from qacli.cli.settings import load_settings
from qacli.errors import DatabaseError, InvalidRequest

if TYPE_CHECKING:
    from qacli.batch.remote.requests import RequestLines
    from qacli.batch.remote.results import ResultReader, TakenCounts
    from qacli.db.batch_parts import BatchParts
    from qacli.db.batches import Batches
    from qacli.db.models import Batch

PAGE = 500
GZIP_START = b"\x1f\x8b"
Name = Annotated[str, typer.Argument(metavar="BATCH", help="Name of the batch.")]


def requests(
    context: typer.Context,
    name: Name,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write (default: stdout)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Only questions for MODEL."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> int:
    """Write the waiting questions as lines for a Batch API.

    Send the file by a provider's web page or with vllm run-batch, and read the results with qa
    batch take.
    """
    from qacli.batch.remote.limits import MAX_LINES, MAX_PART_BYTES
    from qacli.batch.remote.setup import endpoint_of, request_lines
    from qacli.cli.store import open_batches

    console = Console.from_context(context)
    settings = load_settings(console)
    batches = open_batches(settings, console, connections=1)
    batch = batches.get(name)
    lines = request_lines(batch, endpoint_of(batch), settings)
    writer = _LineWriter(output, console, force=force)
    try:
        count, size, models = _write_requests(
            batches,
            batch,
            lines,
            writer,
            model=None if model is None else settings.model_name(model),
        )
    finally:
        writer.close()
    counts = batches.counts(batch.id or 0)
    if counts["claimed"]:
        console.warning(
            f"{counts['claimed']:,} questions are left out: other processes ask them now."
        )
    if not count:
        console.warning(f"No question of {name} is waiting.")
    if count > MAX_LINES or size > MAX_PART_BYTES or len(models) > 1:
        console.warning(
            f"Providers take files of one model, {MAX_LINES:,} lines and "
            f"{MAX_PART_BYTES // 10**6} MB; this one has {len(models)} models, {count:,} lines "
            f"and {size / 10**6:.0f} MB. --model writes the lines of one model; qa batch "
            "FILE --via batch-api sends all in parts."
        )
    return CLOSED_PIPE if writer.closed else 0


def take(
    context: typer.Context,
    name: Name,
    files: Annotated[
        list[str],
        typer.Argument(metavar="RESULTS", help="Files with results; - reads standard input."),
    ],
) -> int:
    """Store the results of request lines from files.

    Taking a file again changes nothing.
    """
    from qacli.batch.remote.setup import endpoint_of, result_reader
    from qacli.cli.store import open_batches
    from qacli.db.batch_parts import BatchParts

    console = Console.from_context(context)
    settings = load_settings(console)
    batches = open_batches(settings, console, connections=1)
    batch = batches.get(name)
    parts = BatchParts(batches.store)
    reader = result_reader(batch, endpoint_of(batch), settings)
    collect_garbage_often()
    counts = _take_all(files, parts, reader)
    for line in taken_lines(counts):
        console.print(line)
    states = batches.counts(batch.id or 0)
    return exit_code_of(states)


def taken_lines(counts: "TakenCounts") -> Iterator[str]:
    """Return a sentence on the results that were taken."""
    texts = {
        "answered": "answers",
        "failed": "questions that the provider refused",
        "unfit": "answers that do not fit the schema; they are corrected by asking directly",
        "rest": "questions that were not answered; they are waiting",
        "ignored": "lines without effect: of questions that have an answer, or of none",
        "unreadable": "lines that are not results",
    }
    for field, text in texts.items():
        if (number := getattr(counts, field)) or field == "answered":
            yield f"{number:,} {text}"


def _write_requests(
    batches: "Batches",
    batch: "Batch",
    lines: "RequestLines",
    writer: "_LineWriter",
    *,
    model: str | None,
) -> tuple[int, int, set[str]]:
    """Write the lines of all waiting items; return their number, their bytes and their models.

    Args:
        batches: The database.
        batch: The batch.
        lines: Builds the lines.
        writer: Writes them.
        model: The only model whose lines are written; None means all models.
    """
    from qacli.db.batch_parts import BatchParts

    parts = BatchParts(batches.store)
    count = size = 0
    models: set[str] = set()
    after = -1
    while items := parts.waiting(batch.id or 0, after, PAGE):
        after = items[-1].position
        for item in items:
            with suppress(InvalidRequest):  # qa batch FILE records it as failed
                line = lines.line(item)
                if model not in {None, line.model}:
                    continue
                writer.write(line.content)
                count, size = count + 1, size + len(line.content)
                models.add(line.model)
    return count, size, models


def _take_all(files: list[str], parts: "BatchParts", reader: "ResultReader") -> "TakenCounts":
    from qacli.batch.remote.results import ResultPage, TakenCounts

    total = TakenCounts()
    for file in files:
        page = ResultPage(max_lines=PAGE)
        with _open_results(file) as lines:
            for line in lines:
                if line.strip():
                    page.add(line)
                if page.is_full:
                    total.add(page.store(parts, reader))
                    page = ResultPage(max_lines=PAGE)
        total.add(page.store(parts, reader))
    return total


@contextmanager
def _open_results(name: str) -> Iterator[IO[bytes]]:
    r"""Open a file, decompressed if it is compressed; its lines end with `\n` only."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            peek = file.peek(2)[:2] if isinstance(file, BufferedReader) else b""
            yield gzip.GzipFile(fileobj=file) if peek == GZIP_START else file  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequest(f"{name} cannot be read: {reason}.", "Check the file.") from error


def open_new(path: Path, *, force: bool) -> BufferedWriter:
    """Open a file to write it; an existing file only with `force`.

    Raises:
        InvalidRequest: The file exists, or cannot be opened.
    """
    try:
        return path.open("wb" if force else "xb")
    except FileExistsError:
        raise InvalidRequest(
            f"{path} exists.", "Name another file, or use --force to replace it."
        ) from None
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written: {error.strerror}.", "Name another file."
        ) from error


@contextmanager
def full_disk_explained(content: str) -> Iterator[None]:
    """Turn an error of writing into one that says what to do.

    Args:
        content: The name of the content that is written, such as `requests`.

    Raises:
        DatabaseError: The content cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise DatabaseError(
            f"The {content} cannot be written: {error.strerror}.",
            "Make room on the disk and run it again with --force.",
        ) from error


class _LineWriter:
    """Writes lines to a new file or to standard output."""

    def __init__(self, path: Path | None, console: Console, *, force: bool) -> None:
        self.closed = False
        self._console = console
        self._file = None
        if path is None or str(path) == "-":
            return
        self._file = open_new(path, force=force)

    def write(self, line: bytes) -> None:
        if self._file is None:
            self._print(line.decode().removesuffix("\n"))
            return
        with full_disk_explained("requests"):
            self._file.write(line)

    def _print(self, line: str) -> None:
        if not self.closed:
            try:
                self._console.print(line)
            except (BrokenPipeError, SystemExit):
                self.closed = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

"""Ask several models the same question at the same time, and show their answers side by side.

The records of one question are linked: `repeats_id` of each later one is the id of the first.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

import typer

from qacli.cli.answer_display import AnswerDisplay, warn_about_end
from qacli.cli.ask_runner import REDRAW_SECONDS, make_service, start_endpoint
from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.domain import (
    AnswerEvent,
    ChatRequest,
    Delta,
    Failed,
    Finished,
    Repairing,
    Result,
    Started,
)
from qacli.errors import Interrupted, QaError

if TYPE_CHECKING:
    from rich.table import Table

    from qacli.services.ask import Check

MIN_COLUMN = 36
"""Minimum width of a column, in characters; with less room the answers follow one another."""


@dataclass(slots=True)
class ModelAnswer:
    """The answer of one model, while it arrives.

    Attributes:
        model: The model that is asked.
        text: The text that has arrived.
        result: The result of the last question; None before it, and if nothing was recorded.
        error: The error of the model, if it has failed.
        is_complete: True after the last event.
    """

    model: str
    text: str = ""
    result: Result | None = None
    error: BaseException | None = None
    is_complete: bool = False

    def add(self, event: AnswerEvent) -> None:
        """Take over an event."""
        match event:
            case Delta(text):
                self.text += text
            case Repairing():
                self.text = ""
            case Finished(result):
                self.result, self.is_complete = result, True
            case Failed(error, result):
                self.result, self.error, self.is_complete = result, error, True

    @property
    def exit_code(self) -> int:
        """The exit code for this answer alone."""
        if self.error is None:
            return 0
        if isinstance(self.error, KeyboardInterrupt):
            return Interrupted.exit_code
        return self.error.exit_code if isinstance(self.error, QaError) else QaError.exit_code


@dataclass(slots=True)
class _Reader:
    """Reads the events of all answers, each in a thread of its own."""

    events: SimpleQueue[tuple[int, AnswerEvent]] = field(default_factory=SimpleQueue)
    is_stopped: Event = field(default_factory=Event)

    def start(self, index: int, stream: Generator[AnswerEvent]) -> None:
        """Start to read an answer."""
        Thread(target=self._read, args=(index, stream), daemon=True).start()

    def _read(self, index: int, stream: Generator[AnswerEvent]) -> None:
        is_stopping = False
        try:
            for event in stream:
                self.events.put((index, event))
                if self.is_stopped.is_set() and not is_stopping:
                    is_stopping = True
                    self.events.put((index, stream.throw(KeyboardInterrupt())))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - reported as the error of this model
            self.events.put((index, Failed(error, None)))


def ask_models(
    requests: Sequence[tuple[str | None, ChatRequest]],
    display: AnswerDisplay,
    settings: Settings,
    *,
    save: bool,
    check: "Check | None",
) -> None:
    """Ask all models at the same time, and show their answers in the order of the models.

    Args:
        requests: The name of each model as the command line has it, and its request.
        display: The options for showing an answer.
        settings: The endpoints and the place of the history.
        save: Record the questions and answers.
        check: Raises UnfitAnswer for an answer that does not fit its schema.

    Raises:
        QaError: Nothing was asked: there is no endpoint, or no record could be made.
        typer.Exit: A model has failed; the code is the highest of all models.
        KeyboardInterrupt: The user stopped it; the texts that had arrived are recorded.
    """
    console = display.console
    answers = [ModelAnswer(request.question.model) for _, request in requests]
    reader = _Reader()
    names = ", ".join(answer.model for answer in answers)
    with console.show_status(names) as status, ExitStack() as stack:
        streams: list[Generator[AnswerEvent]] = []
        first_id: int | None = None
        services = [
            make_service(
                start_endpoint(settings, name, console, stack),
                settings,
                console,
                stack,
                save=save,
            )
            for name, _ in requests
        ]
        if save:
            from qacli.cli.store import open_store

            store = open_store(settings, console, connections=len(requests))
            services = [replace(service, store=lambda: store) for service in services]
        for (_, request), service in zip(requests, services, strict=True):
            question = request.question
            if question.repeats_id is None:
                question = replace(question, repeats_id=first_id)
            stream = service.stream(
                question,
                replace(request, question=question),
                reserve=save and not streams,
                check=check,
                heartbeat_seconds=REDRAW_SECONDS,
            )
            if not streams:
                # The other records need the id of the first one.
                started = next(stream)
                first_id = started.record_id if isinstance(started, Started) else None
            streams.append(stream)
        for index, stream in enumerate(streams):
            reader.start(index, stream)
        _show_all(answers, reader, display, status.end if status else lambda: None)
    for answer in answers:
        _report(answer, console)
    if code := max(answer.exit_code for answer in answers):
        raise typer.Exit(code)


def _show_all(
    answers: list[ModelAnswer],
    reader: _Reader,
    display: AnswerDisplay,
    end_status: Callable[[], None],
) -> None:
    """Show the answers until all are complete; Ctrl-C ends those that are not.

    Args:
        answers: The answers.
        reader: The source of their events.
        display: The options for showing an answer.
        end_status: Removes the moving line; called when there is something to show.
    """
    console = display.console
    stop: BaseException | None = None
    with ExitStack() as stack:
        if fits_columns(console, len(answers)) and not (display.as_json or display.raw):
            draw, finish = _open_columns(answers, console, stack, end_status)
        else:
            draw, finish = _open_list(answers, display, end_status)
        while not all(answer.is_complete for answer in answers):
            try:
                index, event = reader.events.get()
                answers[index].add(event)
                draw()
            except (KeyboardInterrupt, SystemExit) as signal:
                if stop is not None:
                    raise
                stop = signal
                reader.is_stopped.set()
    finish()
    if stop is not None:
        raise stop


def fits_columns(console: Console, columns: int) -> bool:
    """Return whether the output is a terminal with room for this many columns of text."""
    if not console.is_terminal:
        return False
    from qacli.cli.formatters import console_on

    return console_on(console.stdout).width >= columns * MIN_COLUMN


def _open_columns(
    answers: list[ModelAnswer],
    console: Console,
    stack: ExitStack,
    end_status: Callable[[], None],
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that draws the last lines of all answers, and one that prints them."""
    from rich.live import Live
    from rich.text import Text

    from qacli.cli.formatters import console_on

    screen = console_on(console.stdout)
    live = stack.enter_context(
        Live(console=screen, auto_refresh=False, transient=True, redirect_stdout=False)
    )

    def draw() -> None:
        if not any(answer.text or answer.is_complete for answer in answers):
            return
        end_status()
        width, height = _column_width(screen.width, len(answers)), max(screen.height - 4, 3)
        texts = [Text(answer.text or "...").wrap(screen, width)[-height:] for answer in answers]
        table = columns_table([answer.model for answer in answers], screen.width)
        table.add_row(*(Text("\n").join(lines) for lines in texts))
        live.update(table, refresh=True)

    def finish() -> None:
        print_columns([(answer.model, answer.text) for answer in answers], console)

    return draw, finish


def _column_width(width: int, columns: int) -> int:
    """Return the width of a column's text; two blanks are between two columns."""
    return (width - 2 * (columns - 1)) // columns


def columns_table(headings: Sequence[str], width: int) -> "Table":
    """Return a table without rows, with columns of the same width."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    column = _column_width(width, len(headings)) - 1
    for heading in headings:
        table.add_column(heading, width=column, overflow="fold")
    return table


def print_columns(texts: Sequence[tuple[str, str]], console: Console) -> None:
    """Print Markdown texts side by side, each under its heading."""
    from rich.segment import SegmentLines

    from qacli.cli.formatters import console_on
    from qacli.cli.markdown import Renderer
    from qacli.sanitize import sanitize

    screen = console_on(console.stdout)
    table = columns_table([heading for heading, _ in texts], screen.width)
    narrow = console_on(console.stdout)
    narrow.width = _column_width(screen.width, len(texts)) - 1
    cells = [Renderer(narrow, fold=True).render(sanitize(text)) for _, text in texts]
    table.add_row(*(SegmentLines(lines, new_lines=True) for lines in cells))
    screen.print(table)


def _open_list(
    answers: list[ModelAnswer], display: AnswerDisplay, end_status: Callable[[], None]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that prints each answer when it and those before it are complete."""
    from qacli.cli.formatters import print_heading

    waiting = list(answers)

    def draw() -> None:
        while waiting and waiting[0].is_complete:
            end_status()
            answer = waiting.pop(0)
            if display.as_json:
                if answer.result is not None:
                    display.record(answer.result)
                continue
            if len(waiting) + 1 < len(answers):
                display.console.print("")
            print_heading(display.console, answer.model)
            with display.writer() as text:
                text.add(answer.text)

    return draw, draw


def _report(answer: ModelAnswer, console: Console) -> None:
    """Print the error or the record's id of an answer to stderr."""
    if answer.result is not None:
        warn_about_end(answer.result.outcome, console)
    if isinstance(answer.error, QaError):
        error = answer.error
        console.error(type(error)(f"{answer.model}: {error.what}", error.todo))
    elif answer.error is not None and not isinstance(answer.error, KeyboardInterrupt):
        raise answer.error
    if answer.result is not None and answer.result.record_id is not None:
        outcome = answer.result.outcome
        console.info(f"{answer.model}: {outcome.status}, kept as record {answer.result.record_id}.")

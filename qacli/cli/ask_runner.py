"""Ask from a terminal: choose the endpoint, load the thread, show the answer.

`qa ask` does this once, and `qa chat` for every turn.
"""

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any, Protocol

from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.domain import (
    AnswerEvent,
    Delta,
    Failed,
    Finished,
    Heartbeat,
    Question,
    Received,
    Repairing,
    Result,
    Started,
    Turn,
)
from qacli.serializers import result_to_dict

if TYPE_CHECKING:
    from qacli.provider.client import Retry
    from qacli.provider.endpoint import Endpoint
    from qacli.provider.sync import SyncProvider
    from qacli.services.ask import AskService


def start_endpoint(
    settings: Settings, model: str | None, console: Console, stack: ExitStack
) -> "Endpoint":
    """The endpoint, with the local engine started where it is the one."""
    from dataclasses import replace

    from qacli.provider import endpoint, local_llama

    found = endpoint.resolve_endpoint(settings, model)
    if found.weights is None:
        return found
    console.warning(
        f"Answering with {found.model} on this machine: it is small and often wrong. For a better "
        "model set OPENAI_API_KEY, or QA_LOCAL_MODEL to a larger GGUF file."
    )
    return replace(found, base_url=stack.enter_context(local_llama.local_server(found.weights)))


def make_service(
    endpoint: "Endpoint",
    settings: Settings,
    console: Console,
    stack: ExitStack,
    *,
    save: bool,
) -> "AskService":
    """What is needed to ask there, any number of times; the stack closes the connections.

    Args:
        endpoint: Where to ask.
        settings: The time limits, and where the history is.
        console: Told what happens on the way.
        stack: Closes the connections at its end.
        save: Whether anything is kept.
    """
    from qacli.cli.preload import DATABASE, preload
    from qacli.cli.store import open_store
    from qacli.cost import Pricing
    from qacli.recording.outbox import Outbox
    from qacli.services.ask import AskService

    @cache
    def connected() -> "SyncProvider":
        # One question needs one HTTP client; openai loads a second where it finds it.
        with _hide_module("aiohttp"):
            from qacli.provider.sync import SyncProvider

        spoken = console.verbose and not console.quiet
        on_request = console.info if spoken else None
        made = SyncProvider(endpoint, settings, on_retry, on_request, console.info)
        stack.callback(made.close)
        if save:
            # The provider's modules are loaded; these load while the request waits for its answer.
            preload(DATABASE)
        return made

    def provider(_ask: Question) -> "SyncProvider":
        return connected()

    def on_retry(retry: "Retry") -> None:
        console.info(f"{retry.error.what} Asking again in {retry.delay:.1f} seconds.")

    return AskService(
        provider=provider,
        outbox=Outbox(settings.outbox_path) if save else None,
        store=lambda: open_store(settings, console),
        prices=Pricing.load(settings.prices_path),
    )


@contextmanager
def _hide_module(package: str) -> Iterator[None]:
    """Import as if a package were not installed, unless it is loaded already."""
    loaded: dict[str, Any] = sys.modules
    hidden = loaded.setdefault(package, None) is None
    try:
        yield
    finally:
        if hidden:
            del loaded[package]


def followed_record(
    which: str | None, settings: Settings, console: Console, *, go_on: bool
) -> int | None:
    """The id of the record to follow up; None where there is none.

    Args:
        which: What `--follow` names: an id, `last`, or -2 for the one before the last.
        settings: Where the history is.
        console: Told of another record than the last, where that has no answer.
        go_on: `--continue`: follow up the last record that has an answer.

    Raises:
        InvalidRequest: It is no record's id.
        NotFound: There is no such record.
    """
    from qacli.cli.filters import parse_record_id
    from qacli.cli.store import last_answered, open_store, record_at

    if go_on:
        return last_answered(open_store(settings, console), console)
    if which is None:
        return None
    number = parse_record_id(which)
    return number if number >= 0 else record_at(open_store(settings, console), number).id


def load_context_or_warn(follows_id: int, settings: Settings, console: Console) -> list[Turn]:
    """What the question follows up, as far as there is room for it."""
    from qacli.cli.store import open_store
    from qacli.services.context import load_context

    store = open_store(settings, console)
    turns, left_out = load_context(store, follows_id, settings.context_tokens)
    warn_about_dropped_turns(left_out, console)
    return turns


def warn_about_dropped_turns(turns: int, console: Console) -> None:
    """Say that a question goes without the oldest turns of its thread, where it does."""
    from qacli.cli.store import count_noun

    if turns:
        console.warning(
            f"The {count_noun(turns, 'oldest turn')} of the thread had no room; "
            "QA_CONTEXT_TOKENS allows more."
        )


REDRAW_SECONDS = 0.2
"""Seconds of silence after which to draw the text that has arrived, and to handle Ctrl-C: a
signal that comes just before the wait for the next piece begins does not end that wait."""


class TextWriter(Protocol):
    """Shows the text of one answer."""

    def add(self, text: str) -> None:
        """Show a piece of text, or collect it."""

    def redraw(self) -> None:
        """Draw what has been collected, in a pause."""


class _NoText:
    """Shows nothing: the record is printed at the end."""

    def add(self, text: str) -> None:
        pass

    def redraw(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _JsonText(_NoText):
    """Prints an answer that is JSON; the whole of it comes in one piece, after its check."""

    console: Console

    def add(self, text: str) -> None:
        from qacli.json_schema import extract_json

        self.console.write(self.console.json_text(extract_json(text)) + "\n")


@dataclass(slots=True)
class _PlainText(_NoText):
    """Prints the text as it is."""

    console: Console
    last: str = "\n"

    def add(self, text: str) -> None:
        self.console.write(text)
        self.last = text[-1:] or self.last

    def finish(self) -> None:
        if self.last != "\n":
            self.console.write("\n")


@dataclass(slots=True)
class _WholeText(_NoText):
    """Prints the text in one write, at the end."""

    console: Console
    pieces: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces.append(text)

    def finish(self) -> None:
        if text := "".join(self.pieces):
            self.console.write(text if text.endswith("\n") else f"{text}\n")


@dataclass(frozen=True, slots=True)
class AnswerDisplay:
    """How an answer is shown.

    Attributes:
        raw: Print the text without rendering Markdown.
        as_json: Print the record instead of the text.
        as_data: Print the answer as JSON.
        whole: Print the text and its line end in one write, so that the answers of several
            processes (`xargs -P`) stay whole in one pipe.
        notes_record: Print the id of the record of a complete answer, too.
        tells_reuse: Print in the record whether its answer was there already.
    """

    console: Console
    raw: bool
    as_json: bool
    as_data: bool
    whole: bool = False
    notes_record: bool = True
    tells_reuse: bool = False

    @contextmanager
    def writer(self) -> Iterator[TextWriter]:
        """Open what shows the text of one answer; the text is complete when it is closed."""
        console = self.console
        if self.as_json:
            yield _NoText()
        elif self.as_data:
            yield _JsonText(console)
        elif console.is_terminal and not self.raw:
            from qacli.cli.formatters import markdown_stream

            with markdown_stream(console) as stream:
                yield stream
        else:
            text: _WholeText | _PlainText = (
                _WholeText(console) if self.whole else _PlainText(console)
            )
            try:
                yield text
            finally:
                text.finish()

    def record(self, result: Result) -> None:
        """Print the record, where that is wanted."""
        if self.as_json:
            record = result_to_dict(result)
            self.console.print_json({**record, "reused": False} if self.tells_reuse else record)


def show_answer(
    events: Generator[AnswerEvent],
    display: AnswerDisplay,
    *,
    arriving: AbstractContextManager[None] | None = None,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> None:
    """Show an answer while it arrives, and report its outcome.

    Args:
        events: The answer, see `qacli.services.ask.AskService.stream`.
        display: How to show it.
        arriving: Entered while the answer arrives, and left before it is recorded.
        on_result: Called with the result of the last question, also where that has failed.

    Raises:
        QaError: There is no usable answer.
        KeyboardInterrupt: It was stopped; what had arrived is recorded.
    """
    with closing(events), ExitStack() as stack:
        view = _AnswerView(display, stack, arriving or nullcontext(), on_result)
        try:
            for event in events:
                view.show(event)
        except BaseException as error:
            if getgeneratorstate(events) == GEN_CLOSED:
                raise
            # Ctrl-C, or a closed pipe: the answer ends with it, and is recorded.
            view.show(events.throw(error))
            for event in events:
                view.show(event)


class _AnswerView:
    """Shows the events of an answer. See `show_answer`.

    Args:
        display: How to show it.
        stack: Entered while the text of a question arrives.
        arriving: Entered into the stack.
        on_result: Called with the result of the last question.
    """

    def __init__(
        self,
        display: AnswerDisplay,
        stack: ExitStack,
        arriving: AbstractContextManager[None],
        on_result: Callable[[Result], None],
    ) -> None:
        self._display = display
        self._stack = stack
        self._arriving = arriving
        self._on_result = on_result
        self._text: TextWriter = _NoText()

    def show(self, event: AnswerEvent) -> None:
        """Show an event; raises the error of `Failed`."""
        match event:
            case Started():
                self._stack.enter_context(self._arriving)
                self._text = self._stack.enter_context(self._display.writer())
            case Delta(text):
                self._text.add(text)
            case Heartbeat():
                self._text.redraw()
            case Received():
                self._stack.close()
            case Repairing(error, result):
                _report_outcome(result, self._display.console)
                self._display.console.info(f"{error.what} Asking once more.")
            case Finished(result):
                self._show_end(result, notes_record=self._display.notes_record)
            case Failed(failure, result):
                if result is not None:
                    self._show_end(result, notes_record=True)
                raise failure

    def _show_end(self, result: Result, *, notes_record: bool) -> None:
        self._on_result(result)
        self._display.record(result)
        _report_outcome(result, self._display.console, notes_record=notes_record)


def warn_if_truncated(finish_reason: str | None, console: Console) -> None:
    """Warn of an answer that was cut at the token limit."""
    if finish_reason == "length":
        console.warning("The answer was cut at the token limit; --max-tokens allows more.")


def _report_outcome(result: Result, console: Console, *, notes_record: bool = True) -> None:
    outcome = result.outcome
    warn_if_truncated(outcome.finish_reason, console)
    if result.undelivered is not None:
        console.warning(
            f"qa: {result.undelivered.what} The question and its answer are safe in the outbox; "
            "the next qa command that reaches the database delivers them."
        )
    elif result.record_id is not None and notes_record:
        console.info(f"{outcome.status.capitalize()}, kept as record {result.record_id}.")

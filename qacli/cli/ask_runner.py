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
    Received,
    Repairing,
    Result,
    Started,
    Turn,
)
from qacli.serializers import result_to_dict

if TYPE_CHECKING:
    from qacli.provider.endpoint import Endpoint
    from qacli.provider.retry import Retry
    from qacli.provider.sync import SyncProvider
    from qacli.services.ask import AskService


def start_endpoint(
    settings: Settings, model: str | None, console: Console, stack: ExitStack
) -> "Endpoint":
    """Return the endpoint to ask, with the local engine started if it is the endpoint."""
    from dataclasses import replace

    from qacli.provider import endpoint, local_llama

    resolved = endpoint.resolve_endpoint(settings, model)
    if resolved.weights is None:
        return resolved
    console.warning(
        f"Answering with {resolved.model} on this machine: it is small and often wrong. For a "
        "better model set OPENAI_API_KEY, or QA_LOCAL_MODEL to a larger GGUF file."
    )
    base_url = stack.enter_context(local_llama.local_server(resolved.weights))
    return replace(resolved, base_url=base_url)


def make_service(
    endpoint: "Endpoint",
    settings: Settings,
    console: Console,
    stack: ExitStack,
    *,
    save: bool,
) -> "AskService":
    """Build the service that asks this endpoint any number of questions.

    Args:
        endpoint: The endpoint to ask.
        settings: The time limits, and the place of the history.
        console: Prints retries and, with `--verbose`, the requests.
        stack: Closes the connections at its end.
        save: Record the questions and answers.
    """
    from qacli.cli.preload import DATABASE, preload
    from qacli.cli.store import open_store
    from qacli.cost import Pricing
    from qacli.recording.outbox import Outbox
    from qacli.services.ask import AskService

    @cache
    def connect() -> "SyncProvider":
        # One question needs one HTTP client; openai loads a second where it finds it.
        with _hide_module("aiohttp"):
            from qacli.provider.sync import SyncProvider

        trace = console.info if console.verbose and not console.quiet else None
        provider = SyncProvider(endpoint, settings, on_retry, trace, console.info)
        stack.callback(provider.close)
        if save:
            # The provider's modules are loaded; these load while the request waits for its answer.
            preload(DATABASE)
        return provider

    def on_retry(retry: "Retry") -> None:
        console.info(f"{retry.error.what} Asking again in {retry.delay:.1f} seconds.")

    return AskService(
        provider=lambda _question: connect(),
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
    follow: str | None, settings: Settings, console: Console, *, last: bool
) -> int | None:
    """Return the id of the record to follow up; None without `--follow` and `--continue`.

    Args:
        follow: The value of `--follow`: an id, `last`, or -2 for the record before the last.
        settings: The place of the history.
        console: Prints the id of the record if it is not the last one.
        last: `--continue`: follow up the last record that has an answer.

    Raises:
        InvalidRequest: The value is not a record's id.
        NotFound: There is no such record.
    """
    from qacli.cli.filters import parse_record_id
    from qacli.cli.store import last_answered, open_store, record_at

    if last:
        return last_answered(open_store(settings, console), console)
    if follow is None:
        return None
    number = parse_record_id(follow)
    return number if number >= 0 else record_at(open_store(settings, console), number).id


def load_context_or_warn(follows_id: int, settings: Settings, console: Console) -> list[Turn]:
    """Return the earlier turns of the thread that fit the token budget; warn of the others."""
    from qacli.cli.store import open_store
    from qacli.services.context import load_context

    store = open_store(settings, console)
    turns, dropped = load_context(store, follows_id, settings.context_tokens)
    warn_about_dropped_turns(dropped, console)
    return turns


def warn_about_dropped_turns(turns: int, console: Console) -> None:
    """Warn that this many of the oldest turns of the thread are not sent; nothing for 0."""
    from qacli.cli.store import count_noun

    if turns:
        console.warning(
            f"The {count_noun(turns, 'oldest turn')} of the thread had no room; "
            "QA_CONTEXT_TOKENS allows more."
        )


REDRAW_SECONDS = 0.2
"""Seconds of silence after which to draw the text that has arrived, and to handle Ctrl-C: a
signal that comes just before the wait for the next piece does not interrupt that wait."""


class TextWriter(Protocol):
    """Shows the text of one answer."""

    def add(self, text: str) -> None:
        """Show a piece of text, or store it until later."""

    def redraw(self) -> None:
        """Draw the stored text; called in a pause of the stream."""


class _NoText:
    """Show no text: the record is printed at the end."""

    def add(self, text: str) -> None:
        pass

    def redraw(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _JsonText(_NoText):
    """Print an answer that is JSON; it comes in one piece, after it has been checked."""

    console: Console

    def add(self, text: str) -> None:
        from qacli.json_schema import extract_json

        self.console.write(self.console.json_text(extract_json(text)) + "\n")


@dataclass(slots=True)
class _PlainText(_NoText):
    """Print the text as it is."""

    console: Console
    last: str = "\n"

    def add(self, text: str) -> None:
        self.console.write(text)
        self.last = text[-1:] or self.last

    def finish(self) -> None:
        if self.last != "\n":
            self.console.write("\n")


@dataclass(slots=True)
class _BufferedText(_NoText):
    """Print the text in one write, at the end."""

    console: Console
    pieces: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces.append(text)

    def finish(self) -> None:
        if text := "".join(self.pieces):
            self.console.write(text if text.endswith("\n") else f"{text}\n")


@dataclass(frozen=True, slots=True)
class AnswerDisplay:
    """The options for showing an answer.

    Attributes:
        raw: Print the text without rendering Markdown.
        as_json: Print the record instead of the text.
        as_data: Print the answer as JSON.
        buffered: Print the text and its line end in one write, so that the answers of several
            processes (`xargs -P`) do not mix in one pipe.
        prints_id: Print the id of the record also when the answer is complete.
        with_reused: Add the field `reused` to the printed record.
    """

    console: Console
    raw: bool
    as_json: bool
    as_data: bool
    buffered: bool = False
    prints_id: bool = True
    with_reused: bool = False

    @contextmanager
    def writer(self) -> Iterator[TextWriter]:
        """Open the writer for the text of one answer; closing it completes the text."""
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
            text: _BufferedText | _PlainText = (
                _BufferedText(console) if self.buffered else _PlainText(console)
            )
            try:
                yield text
            finally:
                text.finish()

    def record(self, result: Result) -> None:
        """Print the record if the options ask for it."""
        if self.as_json:
            record = result_to_dict(result)
            self.console.print_json({**record, "reused": False} if self.with_reused else record)


def show_answer(
    events: Generator[AnswerEvent],
    display: AnswerDisplay,
    *,
    while_streaming: AbstractContextManager[None] | None = None,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> None:
    """Show an answer while it arrives, and report its outcome.

    Args:
        events: The events of `qacli.services.ask.AskService.stream`.
        display: The options for showing the answer.
        while_streaming: Entered while the answer arrives, and left before it is recorded.
        on_result: Called with the result of the last question, also if it has failed.

    Raises:
        QaError: There is no usable answer.
        KeyboardInterrupt: The user stopped it; the text that had arrived is recorded.
    """
    with closing(events), ExitStack() as stack:
        view = _AnswerView(display, stack, while_streaming or nullcontext(), on_result)
        try:
            for event in events:
                view.show(event)
        except BaseException as error:
            if getgeneratorstate(events) == GEN_CLOSED:
                raise
            # Ctrl-C, or a closed pipe: end the answer and record it.
            view.show(events.throw(error))
            for event in events:
                view.show(event)


class _AnswerView:
    """Show the events of an answer. See `show_answer`.

    Args:
        display: The options for showing it.
        stack: Closed when the text of the answer is complete.
        while_streaming: Entered into the stack when the question starts.
        on_result: Called with the result of the last question.
    """

    def __init__(
        self,
        display: AnswerDisplay,
        stack: ExitStack,
        while_streaming: AbstractContextManager[None],
        on_result: Callable[[Result], None],
    ) -> None:
        self._display = display
        self._stack = stack
        self._while_streaming = while_streaming
        self._on_result = on_result
        self._text: TextWriter = _NoText()

    def show(self, event: AnswerEvent) -> None:
        """Show an event.

        Raises:
            Exception: The error of a `Failed` event.
        """
        match event:
            case Started():
                self._stack.enter_context(self._while_streaming)
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
                self._show_end(result, prints_id=self._display.prints_id)
            case Failed(failure, result):
                if result is not None:
                    self._show_end(result, prints_id=True)
                raise failure

    def _show_end(self, result: Result, *, prints_id: bool) -> None:
        self._on_result(result)
        self._display.record(result)
        _report_outcome(result, self._display.console, prints_id=prints_id)


def warn_if_truncated(finish_reason: str | None, console: Console) -> None:
    """Warn if the answer was cut at the token limit."""
    if finish_reason == "length":
        console.warning("The answer was cut at the token limit; --max-tokens allows more.")


def _report_outcome(result: Result, console: Console, *, prints_id: bool = True) -> None:
    outcome = result.outcome
    warn_if_truncated(outcome.finish_reason, console)
    if result.undelivered is not None:
        console.warning(
            f"qa: {result.undelivered.what} The question and its answer are safe in the outbox; "
            "the next qa command that reaches the database delivers them."
        )
    elif result.record_id is not None and prints_id:
        console.info(f"{outcome.status.capitalize()}, kept as record {result.record_id}.")

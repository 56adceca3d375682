"""Ask from a terminal: choose the endpoint, load the thread, show the answer, name the thread.

`qa ask` does this once, and `qa chat` for every turn.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import cache
from inspect import GEN_CLOSED, getgeneratorstate
from time import monotonic
from typing import TYPE_CHECKING

from qacli.cli.answer_display import AnswerDisplay, NoText, TextWriter, warn_about_end
from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.domain import (
    AnswerEvent,
    Delta,
    Failed,
    Finished,
    Heartbeat,
    ReasoningDelta,
    Received,
    Repairing,
    Result,
    Started,
    Turn,
    now,
)
from qacli.errors import InvalidRequest, QaError

if TYPE_CHECKING:
    from qacli.cli.status_line import StatusLine
    from qacli.db.models import QuestionAnswer
    from qacli.provider.endpoint import Endpoint
    from qacli.provider.retry import Retry
    from qacli.provider.sync import SyncProvider
    from qacli.services.ask import AskService
    from qacli.services.follow_up import FollowUpOptions


def start_endpoint(
    settings: Settings, model: str | None, console: Console, stack: ExitStack
) -> "Endpoint":
    """Return the endpoint to ask, with the local engine started if it is the endpoint."""
    from qacli.model_shutdowns import shutdown_warning
    from qacli.provider import endpoint

    resolved = endpoint.resolve_endpoint(settings, model)
    if resolved.weights is not None:
        console.warning(
            f"Answering with {resolved.model} on this machine: it is small and often wrong. For a "
            "better model set OPENAI_API_KEY, or QA_LOCAL_MODEL to a larger GGUF file."
        )
    elif warning := shutdown_warning(resolved.model, resolved.name, now().date()):
        console.warning(warning)
    return endpoint.start_if_local(resolved, stack)


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
    from qacli.cli.preload import DATABASE, hide_module, preload
    from qacli.cli.store import open_store
    from qacli.cost import Pricing
    from qacli.recording.outbox import Outbox
    from qacli.services.ask import AskService

    @cache
    def connect() -> "SyncProvider":
        # One question needs one HTTP client; openai loads a second where it finds it.
        with hide_module("aiohttp"):
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


def followed_record(
    follow: str | None, settings: Settings, console: Console, *, last: bool
) -> "QuestionAnswer | None":
    """Return the record to follow up; None without `--follow` and `--continue`.

    Args:
        follow: The value of `--follow`: an id, `last`, or -2 for the record before the last.
        settings: The place of the history.
        console: Prints the id of the record if it is not the last one.
        last: `--continue`: follow up the last record that has an answer.

    Raises:
        InvalidRequest: The value is not a record's id, or both options are given.
        NotFound: There is no such record.
    """
    from qacli.cli.filters import parse_record_id
    from qacli.cli.store import last_answered, open_store, record_at

    if last and follow is not None:
        raise InvalidRequest(
            "--continue follows up the last answered record, and --follow the one that it names.",
            "Leave one of them out.",
        )
    if last:
        return last_answered(open_store(settings, console), console)
    if follow is None:
        return None
    return record_at(open_store(settings, console), parse_record_id(follow))


def options_of_record(
    record: "QuestionAnswer", settings: Settings, console: Console
) -> "tuple[Settings, FollowUpOptions]":
    """Return the settings and the options with which a record is followed up, or asked again.

    The settings are those of the record's profile, unless the user has chosen another one. A
    question that goes to another endpoint than its record prints a warning.

    Raises:
        NotConfigured: There is no endpoint to ask.
    """
    from shlex import quote

    from qacli.provider.endpoint import resolve_endpoint
    from qacli.services.follow_up import FollowUpOptions, profiles_of, thread_settings

    chosen = thread_settings(record, settings)
    present = resolve_endpoint(chosen, with_key=False).name
    if chosen is not settings:
        profile = f"the profile {chosen.profile}"
        console.info(f"Asking {present} with {profile}, like record {record.id}.")
    elif record.endpoint not in {None, present}:
        profiles = profiles_of(record.endpoint or "", settings)
        advice = f" To ask there: --profile {quote(profiles[0])}" if profiles else ""
        console.warning(
            f"Record {record.id} was answered by {record.endpoint}; this question and its thread "
            f"go to {present}.{advice}"
        )
    return chosen, FollowUpOptions.of(record, present)


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


def show_answer(
    events: Generator[AnswerEvent],
    display: AnswerDisplay,
    *,
    model: str,
    while_streaming: AbstractContextManager[None] | None = None,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> None:
    """Show an answer while it arrives, and report its outcome.

    Args:
        events: The events of `qacli.services.ask.AskService.stream`.
        display: The options for showing the answer.
        model: The model, for the line that is shown until the answer begins.
        while_streaming: Entered while the answer arrives, and left before it is recorded.
        on_result: Called with the result of the last question, also if it has failed.

    Raises:
        QaError: There is no usable answer.
        KeyboardInterrupt: The user stopped it; the text that had arrived is recorded.
    """
    with display.console.show_status(model) as status, closing(events), ExitStack() as stack:
        view = _AnswerView(display, stack, status, while_streaming or nullcontext(), on_result)
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
        status: The line that is shown until the answer begins, where there is one.
        while_streaming: Entered into the stack when the question starts.
        on_result: Called with the result of the last question.
    """

    def __init__(
        self,
        display: AnswerDisplay,
        stack: ExitStack,
        status: "StatusLine | None",
        while_streaming: AbstractContextManager[None],
        on_result: Callable[[Result], None],
    ) -> None:
        self._display = display
        self._stack = stack
        self._status = status
        self._while_streaming = while_streaming
        self._on_result = on_result
        self._text: TextWriter = NoText()
        self._reasoning_started: float | None = None
        self._reasoning_seconds: float | None = None

    def show(self, event: AnswerEvent) -> None:
        """Show an event.

        Raises:
            Exception: The error of a `Failed` event.
        """
        self._time_reasoning(event)
        match event:
            case Started():
                self._stack.enter_context(self._while_streaming)
                self._text = self._stack.enter_context(self._display.writer())
            case ReasoningDelta(text):
                self._show_status(text)
                self._text.add_reasoning(text)
            case Delta(text):
                self._end_status()
                self._text.add(text)
            case Heartbeat():
                self._text.redraw()
            case Received():
                self._end_status(received=True)
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

    def _show_status(self, reasoning: str) -> None:
        """Show the latest words of the reasoning, or end the line if all of it is shown."""
        if self._display.show_reasoning:
            self._end_status()
        elif self._status is not None:
            self._status.add_reasoning(reasoning)

    def _end_status(self, *, received: bool = False) -> None:
        """End the line; without text on the terminal, only when the whole answer has arrived."""
        if self._status is not None and (received or self._display.shows_text):
            self._status.end()

    def _time_reasoning(self, event: AnswerEvent) -> None:
        if isinstance(event, ReasoningDelta) and self._reasoning_started is None:
            self._reasoning_started = monotonic()
        elif isinstance(event, Delta) and self._reasoning_seconds is None:
            start = self._reasoning_started
            self._reasoning_seconds = None if start is None else monotonic() - start

    def _show_end(self, result: Result, *, prints_id: bool) -> None:
        self._on_result(result)
        self._display.record(result)
        self._display.print_sources(result.outcome.details)
        self._display.summarize_reasoning(result.outcome, result.record_id, self._reasoning_seconds)
        _report_outcome(result, self._display.console, prints_id=prints_id)


def _report_outcome(result: Result, console: Console, *, prints_id: bool = True) -> None:
    outcome = result.outcome
    warn_about_end(outcome, console)
    if result.undelivered is not None:
        console.warning(
            f"qa: {result.undelivered.what} The question and its answer are safe in the outbox; "
            "the next qa command that reaches the database delivers them."
        )
    elif result.record_id is not None and prints_id:
        console.info(f"{outcome.status.capitalize()}, kept as record {result.record_id}.")


def name_thread(
    service: "AskService",
    result: Result,
    settings: Settings,
    console: Console,
    stoppable: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Let a model name the thread of a first answer, if the settings enable that.

    The answer has been shown and recorded, so an error or Ctrl-C is only a note on stderr.

    Args:
        service: The service that has asked the question.
        result: Its result.
        settings: Whether and by which model threads are named.
        console: Shows a moving line until the title is there.
        stoppable: Makes a context that is entered while Ctrl-C may stop the request.
    """
    if not settings.auto_title:
        return
    from qacli.services.title import is_first_answer, title_thread

    if not is_first_answer(result):
        return
    command = f"qa title {result.record_id}"
    name = settings.title_model
    model = settings.model_name(name) if name is not None else result.question.model
    assert model is not None  # noqa: S101 - for the type checker: a name has a model
    try:
        with stoppable(), console.show_status(f"title: {model}"):
            title = title_thread(
                service,
                result,
                model=model,
                params=settings.default_params(model),
                stream=settings.stream,
            )
    except KeyboardInterrupt:
        console.info(f"The thread has no title; {command} TITLE names it.")
    except QaError as error:
        console.info(f"The thread has no title: {error.what} To name it: {command} TITLE")
    else:
        console.info(f"Titled: {title}")

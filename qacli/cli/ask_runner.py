"""Asking from a terminal: where the question goes, what it follows up, and the answer shown.

What `qa ask` does once and `qa chat` for every turn.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.domain import Question, Turn
from qacli.errors import QaError
from qacli.serializers import record_to_dict

if TYPE_CHECKING:
    from qacli.provider.client import Retry
    from qacli.provider.endpoint import Endpoint
    from qacli.provider.sync import SyncProvider
    from qacli.services.ask import AskService, AskSession


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
        made = SyncProvider(endpoint, settings, on_retry, console.info if spoken else None)
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
"""Seconds of silence after which to draw what has arrived, and to see whether Ctrl-C was pressed:
a signal that comes just before the wait for the next piece begins does not end that wait."""


@dataclass(frozen=True, slots=True)
class AnswerDisplay:
    """How an answer is shown.

    Attributes:
        raw: The text as it is, also on a terminal.
        as_json: The record instead of the text.
        as_data: Nothing until all of it is there: an answer that does not fit is not shown.
        whole: The text and its line end in one write, so that the answers of several processes
            (`xargs -P`) stay whole in one pipe.
        notes_record: Say of a whole answer, too, which record keeps it.
        tells_reuse: Say in the record whether its answer was there already.
    """

    console: Console
    raw: bool
    as_json: bool
    as_data: bool
    whole: bool = False
    notes_record: bool = True
    tells_reuse: bool = False

    def write(self, texts: Iterable[str]) -> None:
        """Print the text, where it may be as it arrives."""
        console = self.console
        if self.as_json or self.as_data:
            whole = "".join(texts)
            if not self.as_json:
                from qacli.json_schema import extract_json

                data = extract_json(whole)
                console.write(console.json_text(data) + "\n")
        elif console.is_terminal and not self.raw:
            from qacli.cli.formatters import show_markdown

            show_markdown(_with_redraws(texts), console)
        elif self.whole:
            arrived: list[str] = []
            try:
                arrived.extend(texts)
            finally:
                if answer := "".join(arrived):
                    console.write(answer if answer.endswith("\n") else f"{answer}\n")
        else:
            end = "\n"
            try:
                for text in texts:
                    console.write(text)
                    end = text[-1:] or end
            finally:
                if end != "\n":
                    console.write("\n")

    def record(self, exchange: "AskSession") -> None:
        """Print the record, where that is wanted."""
        if self.as_json:
            record = record_to_dict(exchange.ask, exchange.outcome, exchange.record_id)
            self.console.print_json({**record, "reused": False} if self.tells_reuse else record)


def _with_redraws(texts: Iterable[str]) -> Iterator[str]:
    """The texts, and an empty one where they pause: a moment to draw what has arrived."""
    paused = True
    for text in texts:
        if text or not paused:
            yield text
        paused = not text


def run_session(
    exchange: "AskSession",
    shown: AnswerDisplay,
    *,
    may_correct: bool = False,
    arriving: AbstractContextManager[None] | None = None,
) -> None:
    """Ask, show the answer, and say what became of it.

    Args:
        exchange: What to ask.
        shown: How to show it.
        may_correct: Whether to ask once more where the answer does not fit.
        arriving: Held while the answer arrives, and no longer when it is kept.
    """
    console = shown.console
    try:
        with exchange, arriving or nullcontext():
            shown.write(exchange)
    except (QaError, KeyboardInterrupt, SystemExit) as error:
        _report_outcome(exchange, console)
        unfit = exchange.schema_error
        # What the token limit has cut would be cut again.
        cut = exchange.outcome.finish_reason == "length"
        if unfit is None or error is not unfit or cut or not may_correct:
            shown.record(exchange)
            raise
    else:
        shown.record(exchange)
        _report_outcome(exchange, console, notes_record=shown.notes_record)
        return
    from qacli.json_schema import repair_prompt

    console.info(f"{unfit.what} Asking once more.")
    run_session(exchange.follow_up(repair_prompt(unfit), corrects=True), shown)


def warn_if_truncated(finish_reason: str | None, console: Console) -> None:
    """Say that an answer is not whole, where it is not."""
    if finish_reason == "length":
        console.warning("The answer was cut at the token limit; --max-tokens allows more.")


def _report_outcome(exchange: "AskSession", console: Console, *, notes_record: bool = True) -> None:
    outcome = exchange.outcome
    warn_if_truncated(outcome.finish_reason, console)
    if exchange.undelivered is not None:
        console.warning(
            f"qa: {exchange.undelivered.what} The question and its answer are safe in the outbox; "
            "the next qa command that reaches the database delivers them."
        )
    elif exchange.record_id is not None and notes_record:
        console.info(f"{outcome.status.capitalize()}, kept as record {exchange.record_id}.")

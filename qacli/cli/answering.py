"""Asking from a terminal: where the question goes, what it follows up, and the answer shown.

What `qa ask` does once and `qa chat` for every turn.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from qacli.cli.terminal import Terminal
from qacli.config import Settings
from qacli.errors import QaError
from qacli.exchange import Ask, Turn, document

if TYPE_CHECKING:
    from qacli.asking import Asking, Exchange
    from qacli.cli.writer import Writer
    from qacli.endpoint import Endpoint
    from qacli.provider import Provider, Retry


def started_endpoint(
    settings: Settings, model: str | None, terminal: Terminal, stack: ExitStack
) -> "Endpoint":
    """The endpoint, with the local engine started where it is the one."""
    from dataclasses import replace

    from qacli import endpoint, local

    found = endpoint.resolve(settings, model)
    if found.weights is None:
        return found
    terminal.warn(
        f"Answering with {found.model} on this machine: it is small and often wrong. For a better "
        "model set OPENAI_API_KEY, or QA_LOCAL_MODEL to a larger GGUF file."
    )
    return replace(found, base_url=stack.enter_context(local.running(found.weights)))


def asking_at(  # noqa: PLR0913 - the parts of it, by name
    endpoint: "Endpoint",
    settings: Settings,
    terminal: Terminal,
    stack: ExitStack,
    *,
    save: bool,
    history: "Writer | None" = None,
) -> "Asking":
    """What is needed to ask there, any number of times; the stack closes the connections.

    Args:
        endpoint: Where to ask.
        settings: The time limits, and where the history is.
        terminal: Told what happens on the way.
        stack: Closes the connections at its end.
        save: Whether anything is kept.
        history: Who keeps it; None opens the history once there is something to keep.
    """
    from qacli.asking import Asking
    from qacli.cli.history import open_history
    from qacli.outbox import Outbox
    from qacli.prices import Prices

    @cache
    def connected() -> "Provider":
        # One question needs one HTTP client; openai loads a second where it finds it.
        with _hidden("aiohttp"):
            from qacli.provider import Provider

        spoken = terminal.verbose and not terminal.quiet
        made = Provider(endpoint, settings, on_retry, terminal.note if spoken else None)
        stack.callback(made.close)
        return made

    def provider(_ask: Ask) -> "Provider":
        return connected()

    def on_retry(retry: "Retry") -> None:
        terminal.note(f"{retry.error.what} Asking again in {retry.delay:.1f} seconds.")

    return Asking(
        provider=provider,
        outbox=Outbox(settings.outbox_path) if save else None,
        store=lambda: history or open_history(settings, terminal),
        prices=Prices.load(settings.prices_path),
    )


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Import as if a package were not installed, unless it is loaded already."""
    loaded: dict[str, Any] = sys.modules
    hidden = loaded.setdefault(package, None) is None
    try:
        yield
    finally:
        if hidden:
            del loaded[package]


def followed_record(
    which: str | None, settings: Settings, terminal: Terminal, *, go_on: bool
) -> int | None:
    """The id of the record to follow up; None where there is none.

    Args:
        which: What `--follow` names: an id, `last`, or -2 for the one before the last.
        settings: Where the history is.
        terminal: Told of another record than the last, where that has no answer.
        go_on: `--continue`: follow up the last record that has an answer.

    Raises:
        InvalidRequest: It is no record's id.
        NotFound: There is no such record.
    """
    from qacli.cli.choosing import number_of
    from qacli.cli.history import last_answered, open_history, record_at

    if go_on:
        return last_answered(open_history(settings, terminal), terminal)
    if which is None:
        return None
    number = number_of(which)
    return number if number >= 0 else record_at(open_history(settings, terminal), number).id


def turns_before(follows_id: int, settings: Settings, terminal: Terminal) -> list[Turn]:
    """What the question follows up, as far as there is room for it."""
    from qacli.asking import turns_before
    from qacli.cli.history import open_history

    store = open_history(settings, terminal)
    turns, left_out = turns_before(store, follows_id, settings.context_tokens)
    warn_of_left_out(left_out, terminal)
    return turns


def warn_of_left_out(turns: int, terminal: Terminal) -> None:
    """Say that a question goes without the oldest turns of its thread, where it does."""
    from qacli.cli.history import counted

    if turns:
        terminal.warn(
            f"The {counted(turns, 'oldest turn')} of the thread had no room; "
            "QA_CONTEXT_TOKENS allows more."
        )


BEAT = 0.2
"""Seconds of silence after which to draw what has arrived, and to see whether Ctrl-C was pressed:
a signal that comes just before the wait for the next piece begins does not end that wait."""


@dataclass(frozen=True, slots=True)
class Shown:
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

    terminal: Terminal
    raw: bool
    as_json: bool
    as_data: bool
    whole: bool = False
    notes_record: bool = True
    tells_reuse: bool = False

    def text(self, texts: Iterable[str]) -> None:
        """Print the text, where it may be as it arrives."""
        terminal = self.terminal
        if self.as_json or self.as_data:
            whole = "".join(texts)
            if not self.as_json:
                from qacli.structure import json_in

                data = json_in(whole)
                terminal.write(terminal.json_text(data) + "\n")
        elif terminal.interactive and not self.raw:
            from qacli.cli.render import show_markdown

            show_markdown(_with_pauses(texts), terminal)
        elif self.whole:
            arrived: list[str] = []
            try:
                arrived.extend(texts)
            finally:
                if answer := "".join(arrived):
                    terminal.write(answer if answer.endswith("\n") else f"{answer}\n")
        else:
            end = "\n"
            try:
                for text in texts:
                    terminal.write(text)
                    end = text[-1:] or end
            finally:
                if end != "\n":
                    terminal.write("\n")

    def record(self, exchange: "Exchange") -> None:
        """Print the record, where that is wanted."""
        if self.as_json:
            record = document(exchange.ask, exchange.outcome, exchange.record_id)
            self.terminal.json({**record, "reused": False} if self.tells_reuse else record)


def _with_pauses(texts: Iterable[str]) -> Iterator[str]:
    """The texts, and an empty one where they pause: a moment to draw what has arrived."""
    paused = True
    for text in texts:
        if text or not paused:
            yield text
        paused = not text


def run(
    exchange: "Exchange",
    shown: Shown,
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
    terminal = shown.terminal
    try:
        with exchange, arriving or nullcontext():
            shown.text(exchange)
    except (QaError, KeyboardInterrupt, SystemExit) as error:
        _tell_outcome(exchange, terminal)
        unfit = exchange.unfit
        # What the token limit has cut would be cut again.
        cut = exchange.outcome.finish_reason == "length"
        if unfit is None or error is not unfit or cut or not may_correct:
            shown.record(exchange)
            raise
    else:
        shown.record(exchange)
        _tell_outcome(exchange, terminal, notes_record=shown.notes_record)
        return
    from qacli.structure import correction

    terminal.note(f"{unfit.what} Asking once more.")
    run(exchange.follow_up(correction(unfit)), shown)


def warn_if_cut(finish_reason: str | None, terminal: Terminal) -> None:
    """Say that an answer is not whole, where it is not."""
    if finish_reason == "length":
        terminal.warn("The answer was cut at the token limit; --max-tokens allows more.")


def _tell_outcome(exchange: "Exchange", terminal: Terminal, *, notes_record: bool = True) -> None:
    outcome = exchange.outcome
    warn_if_cut(outcome.finish_reason, terminal)
    if exchange.undelivered is not None:
        terminal.warn(
            f"qa: {exchange.undelivered.what} The question and its answer are safe in the outbox; "
            "the next qa command that reaches the database delivers them."
        )
    elif exchange.record_id is not None and notes_record:
        terminal.note(f"{outcome.status.capitalize()}, kept as record {exchange.record_id}.")

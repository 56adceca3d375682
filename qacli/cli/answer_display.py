"""Show the text and the reasoning of one answer: as Markdown, as plain text, or as JSON.

Reasoning is no part of the answer: it goes to standard error, or dimmed above the answer on a
terminal that shows Markdown.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qacli.cli.console import Console
from qacli.domain import Outcome, Result
from qacli.serializers import reasoning_length, result_to_dict

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer


MIN_SECONDS = 0.05
"""The shortest time that is shown: a shorter one would be 0.0 seconds."""


class TextWriter(Protocol):
    """Shows the text of one answer."""

    def add(self, text: str) -> None:
        """Show a piece of the answer, or store it until later."""

    def add_reasoning(self, text: str) -> None:
        """Show a piece of the reasoning, or store it until later."""

    def redraw(self) -> None:
        """Draw the stored text; called in a pause of the stream."""


class NoText:
    """Show no text: the record is printed at the end."""

    def add(self, text: str) -> None:
        """Do nothing."""

    def add_reasoning(self, text: str) -> None:
        """Do nothing."""

    def redraw(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _PlainText(NoText):
    """Print the text as it is, and the reasoning to stderr if the options enable that."""

    console: Console
    show_reasoning: bool
    last: str = "\n"
    last_reasoning: str = ""

    def add(self, text: str) -> None:
        self.end_reasoning()
        self.console.write(text)
        self.last = text[-1:] or self.last

    def add_reasoning(self, text: str) -> None:
        if self.show_reasoning:
            self._write_aside(text)
            self.last_reasoning = text[-1:] or self.last_reasoning

    def end_reasoning(self) -> None:
        """End the last line of the reasoning, with an empty line between it and the answer."""
        if self.last_reasoning:
            self._write_aside("\n" if self.last_reasoning == "\n" else "\n\n")
            self.last_reasoning = ""

    def _write_aside(self, text: str) -> None:
        stderr = self.console.stderr
        if stderr.isatty():
            from qacli.cli.formatters import write_dimmed

            write_dimmed(stderr, text)
        else:
            self.console.write_aside(text)

    def finish(self) -> None:
        self.end_reasoning()
        if self.last != "\n":
            self.console.write("\n")


@dataclass(slots=True)
class _JsonText(_PlainText):
    """Print an answer that is JSON; it comes in one piece, after it has been checked."""

    def add(self, text: str) -> None:
        from qacli.json_schema import extract_json

        self.end_reasoning()
        self.console.write(self.console.json_text(extract_json(text)) + "\n")


@dataclass(slots=True)
class _BufferedText(_PlainText):
    """Print the text in one write, at the end."""

    pieces: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces.append(text)

    def finish(self) -> None:
        self.end_reasoning()
        if text := "".join(self.pieces):
            self.console.write(text if text.endswith("\n") else f"{text}\n")


class _HiddenText(_PlainText):
    """Print only the reasoning, if the options enable that: the answer is used otherwise."""

    def add(self, text: str) -> None:
        """Print nothing of the answer."""


@dataclass(frozen=True, slots=True)
class AnswerDisplay:
    """The options for showing an answer.

    Attributes:
        raw: Print the text without rendering Markdown.
        as_json: Print the record instead of the text.
        as_data: Print the answer as JSON.
        show_reasoning: Show all of the reasoning. Otherwise a terminal shows the latest words of
            it until the answer begins.
        buffered: Print the text and its line end in one write, so that the answers of several
            processes (`xargs -P`) do not mix in one pipe.
        prints_id: Print the id of the record also when the answer is complete.
        with_reused: Add the field `reused` to the printed record.
        hidden: Print neither the answer nor its record: the command does that with a file, or with
            the code of the answer.
    """

    console: Console
    raw: bool
    as_json: bool
    as_data: bool
    show_reasoning: bool = False
    buffered: bool = False
    prints_id: bool = True
    with_reused: bool = False
    hidden: bool = False

    @property
    def shows_text(self) -> bool:
        """True if the text of the answer is printed while it arrives."""
        return not (self.hidden or self.as_json or self.buffered)

    @contextmanager
    def writer(self) -> Iterator[TextWriter]:
        """Open the writer for the text of one answer; closing it completes the text."""
        console = self.console
        if self.as_json:
            yield NoText()
            return
        shows = self.show_reasoning and not console.quiet
        if console.is_terminal and not (self.raw or self.as_data or self.hidden):
            from qacli.cli.formatters import markdown_stream

            with markdown_stream(console, show_reasoning=shows) as stream:
                yield stream
            return
        text = self._text_type()(console, shows)
        try:
            yield text
        finally:
            text.finish()

    def _text_type(self) -> type[_PlainText]:
        if self.hidden:
            return _HiddenText
        return _JsonText if self.as_data else _BufferedText if self.buffered else _PlainText

    def record(self, result: Result) -> None:
        """Print the record if the options enable that."""
        if self.as_json and not self.hidden:
            self.console.print_json(self.document(result_to_dict(result), reused=False))

    def document(self, record: dict[str, Any], *, reused: bool) -> dict[str, Any]:
        """Return the record as `--json` prints it."""
        return {**record, "reused": reused} if self.with_reused else record

    def print_sources(self, details: Mapping[str, Any]) -> None:
        """Print the sources and images of an answer on a terminal."""
        if self.hidden or self.as_json or self.as_data:
            return
        if details and self.console.is_terminal:
            from qacli.cli.formatters import source_lines

            if lines := source_lines(details):
                self.console.print("\n".join(["", *lines]))

    def summarize_reasoning(
        self, outcome: Outcome, record_id: int | None, seconds: float | None
    ) -> None:
        """Print one line about reasoning that was not shown.

        Args:
            outcome: The outcome of the question.
            record_id: The id of the record, if there is one.
            seconds: The time from the first piece of reasoning to the first of the answer, if both
                were seen.
        """
        if outcome.reasoning is None or self.show_reasoning or self.as_json:
            return
        # An answer that came in one piece has no time that could be measured.
        time = "" if seconds is None or seconds < MIN_SECONDS else f" for {seconds:.1f} s"
        command = "" if record_id is None else f"qa show {record_id} "
        length = reasoning_length(outcome.reasoning, outcome.reasoning_tokens)
        self.console.info(f"Thought{time}, {length}; {command}--show-reasoning shows it.")


def warn_about_end(outcome: "Outcome | QuestionAnswer", console: Console) -> None:
    """Warn if an answer has some text but not all of it, or is a refusal."""
    if not outcome.answer:
        return
    if outcome.finish_reason in {"length", "max_output_tokens"}:
        console.warning("The answer was cut at the token limit; --max-tokens allows more.")
    elif outcome.finish_reason == "content_filter":
        console.warning("The provider's content filter cut the answer off.")
    elif outcome.details.get("refusal"):
        console.warning("The model refused to answer the question.")

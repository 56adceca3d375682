"""Format output for a person with rich: tables, a record, Markdown, live lines."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, TextIO

from qacli.citations import images, sources
from qacli.cli.console import Console
from qacli.cli.text_width import fit_to_width
from qacli.model_options import RESERVED
from qacli.money import usd
from qacli.record_fields import RECORD_FIELDS
from qacli.sanitize import sanitize, unfiltered
from qacli.serializers import error_text, flat_values, reasoning_length, to_csv_line, to_markdown

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import ConsoleOptions, RenderableType

    from qacli.cli.markdown_stream import MarkdownStream
    from qacli.db.models import QuestionAnswer

NOTHING_FITS = "No record matches."
PREVIEW_CHARACTERS = 200
FENCE = re.compile(r"^ *(```|~~~)\S*", re.MULTILINE)


def one_line(text: str, length: int = PREVIEW_CHARACTERS) -> str:
    """Return the start of a text in one line, without the fences around code."""
    start = " ".join(FENCE.sub("", sanitize(text[: length * 2])).split())
    return start if len(start) <= length else start[: length - 1] + "…"


def print_json_array(lines: Iterable[str], console: Console) -> None:
    """Print JSON texts as one array, one by one."""
    start = "["
    for line in lines:
        console.write(start + console.json_text(line))
        start = ",\n "
    console.print("]" if start != "[" else "[]")


def print_documents(documents: Iterator[dict[str, Any]], form: str, console: Console) -> None:
    """Print any number of records, one by one, as `csv` or `md`."""
    console.print_lines(_csv_lines(documents) if form == "csv" else map(to_markdown, documents))


def _csv_lines(documents: Iterator[dict[str, Any]]) -> Iterator[str]:
    rows = (flat_values(document).values() for document in documents)
    return (to_csv_line(row)[:-1] for row in chain([RECORD_FIELDS], rows))


def show_record(
    record: "QuestionAnswer",
    console: Console,
    *,
    show_reasoning: bool = False,
    fold_tools: bool = False,
) -> None:
    """Print one record: its question, its answer, and facts about them.

    Args:
        record: The record.
        console: Where to print.
        show_reasoning: Print all of the model's reasoning; otherwise one line about it.
        fold_tools: Print one line for each tool call, and one for its results.
    """
    question, answer, calls = _exchange(record, fold_tools=fold_tools)
    head = " · ".join(_facts(record))
    error = error_text(record.error_kind, record.error)
    if not console.is_terminal:
        parts = [head, question]
        if record.system:
            parts.insert(1, f"System: {record.system}")
        reasoning = _reasoning_text(record, show_reasoning=show_reasoning)
        links = "\n".join(source_lines(record.details))
        parts += [text for text in (reasoning, answer, calls, links, error) if text]
        console.print("\n\n".join(parts))
        return
    from rich.text import Text

    rich_console = console_on(console.stdout)
    rich_console.print(Text(sanitize(head), style="dim"))
    if record.system:
        rich_console.print(Text(f"System: {sanitize(record.system)}", style="dim"))
    rich_console.print()
    rich_console.print(Text(sanitize(question), style="bold"))
    if reasoning := _reasoning_text(record, show_reasoning=show_reasoning):
        rich_console.print()
        rich_console.print(Text(sanitize(reasoning), style="dim"))
    if answer:
        rich_console.print()
        _print_markdown(rich_console, answer)
    if calls:
        rich_console.print()
        rich_console.print(Text(sanitize(calls)), soft_wrap=True)
    if lines := source_lines(record.details):
        rich_console.print()
        rich_console.print(Text(sanitize("\n".join(lines))), soft_wrap=True)
    if error:
        rich_console.print()
        rich_console.print(Text(sanitize(error), style="red"))


def _exchange(record: "QuestionAnswer", *, fold_tools: bool) -> tuple[str, str, str]:
    """Return the question, the text of the answer, and its tool calls, as they are shown."""
    question, answer = record.question, record.answer or ""
    if not record.details.get("tool_calls") and not record.params.get("messages"):
        return question, answer, ""
    from qacli.provider.response import calls_of
    from qacli.provider.tool_calls import format_call
    from qacli.provider.tool_exchange import (
        fold,
        folded_calls,
        has_tool_results,
        is_calls_only,
    )

    if fold_tools and has_tool_results(record.params):
        question = fold(question)
    whole = [format_call(*call) for call in calls_of(record.details)]
    lines = folded_calls(record.details) if fold_tools else whole
    return question, "" if is_calls_only(answer, record.details) else answer, "\n".join(lines)


def _reasoning_text(record: "QuestionAnswer", *, show_reasoning: bool) -> str:
    """Return the reasoning, or one line about it; empty for a record without reasoning."""
    if record.reasoning is None or show_reasoning:
        return record.reasoning or ""
    length = reasoning_length(record.reasoning, record.reasoning_tokens)
    return f"Reasoning: {length}; --show-reasoning shows it."


def source_lines(details: Mapping[str, Any]) -> list[str]:
    """Return one numbered line for each source, and one for each image, of an answer."""
    from qacli.attachments import format_size

    lines = [
        f"[{number}] {source.title + '  ' if source.title else ''}{source.url}"
        for number, source in enumerate(sources(details), 1)
    ]
    for number, image in enumerate(images(details), 1):
        facts = [image.media_type, format_size(image.size) if image.size is not None else ""]
        facts.append(image.url or "in the field `details` of the record")
        lines.append(f"Image {number}: {', '.join(filter(None, facts))}")
    return lines


def print_heading(console: Console, text: str) -> None:
    """Print a heading and an empty line: bold on a terminal, else as Markdown."""
    if not console.is_terminal:
        console.print(f"## {text}\n")
        return
    from rich.text import Text

    console_on(console.stdout).print(Text(f"{sanitize(text)}\n", style="bold"))


def write_dimmed(file: TextIO, text: str) -> None:
    """Write dimmed text to a terminal, without a line end."""
    from rich.text import Text

    console_on(file).print(Text(sanitize(text), style="dim"), end="", soft_wrap=True)


def _facts(record: "QuestionAnswer") -> list[str]:
    """Return the facts about a record besides its texts; each is a short phrase."""
    facts = [
        f"Record {record.id}",
        record.title or "",
        f"{record.created_at.astimezone():%Y-%m-%d %H:%M:%S %Z}",
    ]
    facts.append(record.status.value)
    facts.append(record.model or str(record.params.get("model", "")))
    if record.latency_ms is not None:
        facts.append(f"{record.latency_ms / 1000:.1f} s")
    if record.prompt_tokens is not None and record.completion_tokens is not None:
        facts.append(f"{record.prompt_tokens} + {record.completion_tokens} tokens")
    if record.cost_usd is not None:
        facts.append(usd(record.cost_usd))
    if record.follows_id is not None:
        facts.append(f"follows {record.follows_id}")
    if record.corrects_id is not None:
        facts.append(f"corrects {record.corrects_id}")
    if record.repeats_id is not None:
        facts.append(f"asks {record.repeats_id} again")
    if record.rating is not None:
        facts.append(f"rated {record.rating}")
    facts += [
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in record.params.items()
        if name not in RESERVED
    ]
    facts += [_file_fact(file["name"], file.get("size")) for file in record.attachments]
    if record.tags:
        facts.append(f"tagged {', '.join(record.tags)}")
    return [fact for fact in facts if fact]


def _file_fact(name: str, size: int | None) -> str:
    # The size of an image that the provider fetched from a URL is unknown.
    return name if size is None else f"{name} ({size:,} bytes)"


@contextmanager
def markdown_stream(
    console: Console, *, show_reasoning: bool = False
) -> "Iterator[MarkdownStream]":
    """Open a stream that renders Markdown while it arrives, and finish it at the end."""
    from rich.live import Live

    from qacli.cli.markdown_stream import MarkdownStream

    rich_console = console_on(console.stdout)
    with Live(
        console=rich_console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="visible",
    ) as live:
        stream = MarkdownStream(rich_console, live, show_reasoning=show_reasoning)
        try:
            yield stream
        finally:
            stream.finish()


def _print_markdown(rich_console: "RichConsole", text: str) -> None:
    from rich.segment import SegmentLines

    from qacli.cli.markdown import Renderer

    lines = Renderer(rich_console, fold=False).render(sanitize(text))
    rich_console.print(SegmentLines(lines, new_lines=True), crop=False, end="")


@contextmanager
def live_lines() -> Iterator[Callable[[list[str]], None]]:
    """Yield a function that replaces some lines on stderr; they are removed at the end."""
    from rich.live import Live
    from rich.text import Text

    rich_console = console_on(sys.stderr)
    with Live(console=rich_console, auto_refresh=False, transient=True) as live:

        def show(lines: list[str]) -> None:
            width = rich_console.width - 1
            texts = (fit_to_width(sanitize(line), width) for line in lines)
            live.update(Text("\n".join(texts)), refresh=True)

        yield show


def console_on(file: TextIO) -> "RichConsole":
    """Return a rich console that sanitizes all text, but not its own escape sequences."""
    from shutil import get_terminal_size

    from rich.console import Console as RichConsole
    from rich.console import ConsoleDimensions
    from rich.segment import Segment
    from rich.theme import Theme

    class SanitizingConsole(RichConsole):
        def render(
            self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                text, style, control = segment
                yield segment if control else Segment(sanitize(text), style)

    # Without rich's black background for code, which looks wrong on other backgrounds.
    theme = Theme({"markdown.code": "bold cyan"})
    console = SanitizingConsole(highlight=False, file=unfiltered(file), theme=theme)
    if console.is_dumb_terminal:
        # Rich takes 80 columns for any such terminal.
        console.size = ConsoleDimensions(*get_terminal_size())
    return console

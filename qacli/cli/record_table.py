"""Print records as a table, one a line."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import Any

from qacli.cli.console import Console
from qacli.cli.formatters import FENCE, NOTHING_FITS, PREVIEW_CHARACTERS, console_on, one_line
from qacli.cli.text_width import cell_width, fit_to_width
from qacli.dates import format_age
from qacli.domain import now
from qacli.excerpt import find_first, from_position
from qacli.sanitize import sanitize
from qacli.serializers import error_text

NOTHING_YET = 'Nothing has been asked yet. Ask something: qa ask "Who am I?"'
NARROW_COLUMNS = 48
"""A screen with fewer columns shows no ages in a list."""

MEASURED_ROWS = 1000
"""The number of first rows that decide the widths of the columns; later rows are streamed."""

CHARACTERS_BEFORE_MATCH = 20
"""Characters of a text that are shown before the word that was searched for."""


def print_table(
    documents: Iterable[dict[str, Any]],
    console: Console,
    search: str | None = None,
    *,
    narrowed: bool = False,
    header: bool = True,
) -> None:
    """Print records as a table: aligned to the width of a terminal, or separated by tabs.

    Args:
        documents: The records as dicts, see `qacli.serializers.record_to_dict`.
        console: The output.
        search: The words of a search; each text begins near its first match.
        narrowed: A search or a filter is set, so there may be other records.
        header: Print the names of the columns on a terminal.
    """
    if not console.is_terminal:
        for document in documents:
            when = datetime.fromisoformat(document["created_at"]).isoformat(timespec="seconds")
            texts = (" ".join((document[name] or "").split()) for name in ("question", "answer"))
            console.print("\t".join([str(document["id"]), when, document["status"], *texts]))
        return
    _print_aligned(iter(documents), console, search, narrowed=narrowed, header=header)


def _print_aligned(
    documents: Iterator[dict[str, Any]],
    console: Console,
    search: str | None,
    *,
    narrowed: bool,
    header: bool,
) -> None:
    from shutil import get_terminal_size

    clock = now()
    rows = (
        (
            str(document["id"]),
            format_age(datetime.fromisoformat(document["created_at"]), clock),
            _question_cell(document, search),
            _answer_cell(document, search),
        )
        for document in documents
    )
    first = list(islice(rows, MEASURED_ROWS))
    if not first:
        console.info(NOTHING_FITS if narrowed else NOTHING_YET)
        return
    if header:
        first.insert(0, ("ID", "ASKED", "QUESTION", "ANSWER"))
    columns = get_terminal_size().columns
    number_width, when_width = (max(len(row[column]) for row in first) for column in (0, 1))
    # A narrow screen has no room for the age.
    when_width = when_width + 2 if columns >= NARROW_COLUMNS else 0
    room = max(columns - number_width - when_width - 4, 20)
    # Two fifths for the question, and the width that no answer needs.
    spare = room - max(cell_width(row[3]) for row in first)
    width = min(max(cell_width(row[2]) for row in first), max(room * 2 // 5, spare))
    show = _bold_matches(search, console) if search else console.print
    for number, when, question, answer in chain(first, rows):
        # A later id or age may be longer than the measured ones.
        age = f"{when:<{when_width - 2}}  " if when_width else ""
        start = f"{number:<{number_width}}  {age}"
        answer_width = room - width - (len(start) - number_width - when_width - 2)
        line = f"{start}{fit_to_width(question, width)}  "
        show((line + fit_to_width(answer, max(answer_width, 8))).rstrip())


def _bold_matches(search: str, console: Console) -> Callable[[str], None]:
    """Return a function that prints a line with the words of the search in bold."""
    from rich.text import Text

    from qacli.db.search import parse_terms

    words = "|".join(re.escape(term.text) for term in parse_terms(search))
    rich_console = console_on(console.stdout)

    def show(line: str) -> None:
        text = Text(sanitize(line))
        if words:
            text.highlight_regex(f"(?i:{words})", "bold")
        rich_console.print(text, soft_wrap=True)

    return show


def _question_cell(document: dict[str, Any], search: str | None) -> str:
    question = one_line(_around(document["question"], search))
    title = None if search else document["title"]
    return question if title is None else f"{one_line(title)} · {question}"


def _answer_cell(document: dict[str, Any], search: str | None) -> str:
    text = document["answer"] or error_text(document["error_kind"], document["error"])
    answer = one_line(_around(text, search), PREVIEW_CHARACTERS * 2)
    return answer if document["status"] == "answered" else f"({document['status']}) {answer}"


def _around(text: str, search: str | None) -> str:
    """Return the text from shortly before its first match; the whole text without a match."""
    if search is None:
        return text
    from qacli.db.search import parse_terms

    text = FENCE.sub("", text)
    position = find_first(text, [term.text for term in parse_terms(search)]) or 0
    if position < CHARACTERS_BEFORE_MATCH * 2:
        return text
    return from_position(text, position, CHARACTERS_BEFORE_MATCH)

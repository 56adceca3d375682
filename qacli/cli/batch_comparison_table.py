"""The table of `qa batch compare`: two columns or more of answers, and their totals."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from textwrap import wrap

from qacli.batch.comparison import ComparedItem, Comparison
from qacli.batch.comparison_formats import summary
from qacli.cli.text_width import align, cell_width, fit_to_width
from qacli.money import usd

MIN_ANSWER_CELLS = 20
"""The narrowest column of an answer; with less room the answers of an item follow one another."""

PEEK = 100
"""The items whose ids decide the width of their column."""

MAX_ID_CELLS = 16
SAME_CELLS = 4
GAP = 2


def table_lines(items: Iterable[ComparedItem], comparison: Comparison, width: int) -> Iterator[str]:
    """Yield a table of the items for a terminal of this width, without the totals.

    Two lines are for each item: the answers, cut to their columns, and time and cost of each. With
    less room each answer has lines of its own.
    """
    items = iter(items)
    first = list(islice(items, PEEK))
    id_cells = max([cell_width(item.key) for item in first], default=0)
    id_cells = max(min(id_cells, MAX_ID_CELLS), len("id"))
    count = len(comparison.labels)
    room = width - id_cells - SAME_CELLS - 2 * GAP - GAP * (count - 1)
    if room // count < MIN_ANSWER_CELLS:
        yield from _stacked_lines(chain(first, items), comparison, width)
        return
    widths = [id_cells, SAME_CELLS, *[room // count] * count]
    yield _line(["id", "same", *comparison.labels], widths)
    for item in chain(first, items):
        answers = [_one_line(record["answer"]) for record in item.records]
        yield _line([item.key, _same(item), *answers], widths)
        notes = [_note(item, index) for index in range(count)]
        if any(notes):
            yield _line(["", "", *notes], widths)


def _stacked_lines(
    items: Iterable[ComparedItem], comparison: Comparison, width: int
) -> Iterator[str]:
    label_cells = min(max(map(cell_width, comparison.labels)), width // 3)
    widths = [label_cells, width - label_cells - GAP - 2]
    for item in items:
        yield fit_to_width(f"{item.key}  same: {_same(item)}", width).rstrip()
        for index, (label, record) in enumerate(zip(comparison.labels, item.records, strict=True)):
            yield "  " + _line([label, _one_line(record["answer"])], widths)
            if note := _note(item, index):
                yield "  " + _line(["", note], widths)


def _line(cells: list[str], widths: list[int]) -> str:
    parts = [fit_to_width(cell, width) for cell, width in zip(cells, widths, strict=True)]
    return (" " * GAP).join(parts).rstrip()


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _same(item: ComparedItem) -> str:
    fields = item.agreement.fields
    if item.agreement.is_same or not fields:
        return "yes" if item.agreement.is_same else "no"
    return f"{sum(fields.values())}/{len(fields)}"


def _note(item: ComparedItem, index: int) -> str:
    """Return the time and the cost of an answer, and the verdict on it."""
    record, parts = item.records[index], []
    if item.verdict is not None and item.verdict.winner in {index, None}:
        parts.append("tie" if item.verdict.winner is None else "best")
    if record["latency_ms"] is not None:
        parts.append(f"{record['latency_ms'] / 1000:.1f} s")
    if record["cost_usd"] is not None:
        parts.append(usd(record["cost_usd"]))
    return ", ".join(parts)


def totals_lines(comparison: Comparison, width: int) -> Iterator[str]:
    """Yield the totals: a table of the variants, then those over all."""
    totals = comparison.totals
    rows = [
        ["items", *(f"{sum(total.states.values()):,}" for total in totals)],
        ["answered", *(f"{total.states['answered']:,}" for total in totals)],
        ["left out", *(f"{comparison.left_out(index):,}" for index in range(len(totals)))],
        ["cost", *("-" if total.cost is None else usd(total.cost) for total in totals)],
        ["median", *(_seconds(total.median_ms) for total in totals)],
        ["tokens", *(f"{total.tokens:,}" for total in totals)],
    ]
    if comparison.verdict_batch is not None:
        rows.append(["best", *(f"{total.wins:,}" for total in totals)])
    cells = max((width - len("left out")) // len(totals) - GAP, len("123,456 USD"))
    labels = [fit_to_width(label, cells).rstrip() for label in comparison.labels]
    yield from align([["", *labels], *rows])
    yield ""
    for text in summary(comparison):
        yield from wrap(f"{text}.", width) or [""]


def _seconds(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds / 1000:.1f} s"

"""Write a comparison of batches as CSV, JSON or HTML, a piece at a time."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import Any

from qacli.batch.comparison import ComparedItem, Comparison
from qacli.serializers import to_csv_line

Items = Iterable[ComparedItem]

STYLE = (
    ":root{color-scheme:light dark}body{display:flex;flex-direction:column;gap:1rem;"
    "font:15px/1.4 system-ui,sans-serif;margin:1rem}#totals{order:-1}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #8886;padding:.3rem .5rem;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere}td:first-child{overflow-wrap:normal}td.text{white-space:pre-wrap}tr.different{background:#f802}"
    "td.best{outline:2px solid #080}small{opacity:.7}"
)
"""The totals are written last, when they are known, and shown first."""

PAGE = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    "<title>{title}</title><style>{style}</style></head><body>\n"
)


def item_to_dict(item: ComparedItem, comparison: Comparison) -> dict[str, Any]:
    """Return an item for JSON."""
    names = ("answer", "cost_usd", "latency_ms", "prompt_tokens", "completion_tokens", "model")
    answers = {
        label: {"record_id": record["id"], **{name: record[name] for name in names}}
        for label, record in zip(comparison.labels, item.records, strict=True)
    }
    values: dict[str, Any] = {
        "id": item.key,
        "question": item.records[0]["question"],
        "same": item.agreement.is_same,
        "agreement": item.agreement.share,
        "different": item.agreement.different,
        "answers": answers,
    }
    if comparison.verdict_batch is not None:
        values["verdict"] = item.verdict and {
            "winner": winner_of(item, comparison.labels),
            "reason": item.verdict.reason,
            "swapped": item.verdict.is_swapped,
            "record_id": item.verdict.record_id,
        }
    return values


def winner_of(item: ComparedItem, labels: Sequence[str]) -> str:
    """Return the variant with the better answer; `tie`, or nothing without a verdict."""
    if item.verdict is None:
        return ""
    return "tie" if item.verdict.winner is None else labels[item.verdict.winner]


def json_lines(items: Items, comparison: Comparison) -> Iterator[str]:
    """Yield an object for each item, one in a line."""
    for item in items:
        yield json.dumps(item_to_dict(item, comparison), ensure_ascii=False) + "\n"


def json_object(items: Items, comparison: Comparison) -> Iterator[str]:
    """Yield one object: the items, then the totals."""
    yield '{"items": ['
    separator = "\n"
    for item in items:
        yield separator + json.dumps(item_to_dict(item, comparison), ensure_ascii=False)
        separator = ",\n"
    totals = json.dumps(comparison.to_dict(), ensure_ascii=False)
    yield f"\n],\n{totals[1:]}\n"


def csv_rows(items: Items, comparison: Comparison) -> Iterator[str]:
    """Yield a header, and a row for each item."""
    is_judged = comparison.verdict_batch is not None
    details = ("answer", "cost_usd", "latency_ms")
    names = ["id", "question", "same", "agreement", "different"]
    names += ["winner", "reason"] if is_judged else []
    names += [f"{label} {detail}" for label in comparison.labels for detail in details]
    yield to_csv_line(names)
    for item in items:
        agreement = item.agreement
        cells = [item.key, item.records[0]["question"]]
        cells += ["yes" if agreement.is_same else "no", f"{agreement.share:.4g}"]
        cells.append(" ".join(agreement.different))
        if is_judged:
            reason = "" if item.verdict is None else item.verdict.reason
            cells += [winner_of(item, comparison.labels), reason]
        cells += [record[detail] for record in item.records for detail in details]
        yield to_csv_line(cells)


def html_page(items: Items, comparison: Comparison) -> Iterator[str]:
    """Yield a page that needs no other file; all texts of questions and answers are escaped."""
    title = "Comparison of " + ", ".join(comparison.labels)
    yield PAGE.format(title=escape(title), style=STYLE)
    heads = ["id", "question", *comparison.labels]
    heads += [] if comparison.verdict_batch is None else ["verdict"]
    yield f"<table><thead><tr>{_cells(heads, 'th')}</tr></thead><tbody>\n"
    for item in items:
        yield _html_row(item, comparison)
    yield "</tbody></table>\n"
    totals = comparison.to_dict()
    rows = "".join(
        f"<tr>{_cells([name, *(_total(variant[name]) for variant in totals['variants'])], 'td')}"
        "</tr>"
        for name in totals["variants"][0]
        if name != "label"
    )
    yield (
        f'<div id="totals"><h1>{escape(title)}</h1><p>{escape(". ".join(summary(comparison)))}.'
        f"</p><table><thead><tr>{_cells(['', *comparison.labels], 'th')}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>\n</body></html>\n"
    )


def _html_row(item: ComparedItem, comparison: Comparison) -> str:
    winner = None if item.verdict is None else item.verdict.winner
    cells = f"<td>{escape(item.key)}</td>"
    cells += f'<td class="text">{escape(item.records[0]["question"])}</td>'
    for index, record in enumerate(item.records):
        kind = "text best" if index == winner else "text"
        note = escape(_note(record))
        cells += (
            f'<td class="{kind}">{escape(record["answer"] or "")}<br><small>{note}</small></td>'
        )
    if comparison.verdict_batch is not None:
        reason = "" if item.verdict is None else item.verdict.reason
        winner_name = winner_of(item, comparison.labels)
        cells += f"<td>{escape(winner_name)}<br><small>{escape(reason)}</small></td>"
    kind = "same" if item.agreement.is_same else "different"
    return f'<tr class="{kind}">{cells}</tr>\n'


def _note(record: dict[str, Any]) -> str:
    parts = [f"record {record['id']}"]
    if record["latency_ms"] is not None:
        parts.append(f"{record['latency_ms'] / 1000:.1f} s")
    if record["cost_usd"] is not None:
        parts.append(f"{record['cost_usd']:.6f} USD")
    return ", ".join(parts)


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _total(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {state}" for state, count in value.items() if count)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def summary(comparison: Comparison) -> Iterator[str]:
    """Yield the totals over all variants as texts without a full stop."""
    count = comparison.count
    yield f"{count:,} compared, {_share(comparison.same, count)} with the same answer"
    for pair, number in sorted(comparison.same_pairs.items()):
        names = " and ".join(comparison.labels[index] for index in pair)
        yield f"{names}: {_share(number, count)} the same"
    for name, number in comparison.fields.items():
        yield f"field {name}: {_share(comparison.same_fields[name], number)} the same"
    if comparison.verdict_batch is not None:
        missing = comparison.different - comparison.judged
        yield f"{comparison.judged:,} verdicts, {comparison.ties:,} ties, {missing:,} missing"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


FORMATS: dict[str, Callable[[Items, Comparison], Iterator[str]]] = {
    "csv": csv_rows,
    "json": json_object,
    "jsonl": json_lines,
    "html": html_page,
}
"""The formats of files, with the functions that write them."""

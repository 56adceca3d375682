"""Print conversations as a table."""

from collections.abc import Iterable
from typing import Any

from qacli.cli.console import Console
from qacli.cli.formatters import NOTHING_FITS, one_line
from qacli.cli.record_table import NOTHING_YET
from qacli.cli.text_width import align, fit_to_width
from qacli.dates import format_age
from qacli.domain import now


def print_thread_table(
    threads: Iterable[dict[str, Any]], console: Console, *, narrowed: bool = False
) -> None:
    """Print conversations: in aligned columns on a terminal, elsewhere separated by tabs.

    Args:
        threads: The conversations as dicts, see `qacli.db.thread_list.Thread`.
        console: The output.
        narrowed: A search or a filter is set, so there may be others.
    """
    clock = now()
    rows = []
    for item in threads:
        text = item["title"] or item["question"]
        when = item["last_at"]
        if console.is_terminal:
            facts = [format_age(when, clock), str(item["records"])]
            rows.append([str(item["id"]), *facts, one_line(text)])
        else:
            facts = [when.isoformat(timespec="seconds"), str(item["records"])]
            console.print("\t".join([str(item["id"]), *facts, " ".join(text.split())]))
    if not console.is_terminal:
        return
    if not rows:
        console.info(NOTHING_FITS if narrowed else NOTHING_YET)
        return
    from shutil import get_terminal_size

    width = get_terminal_size().columns
    for line in align([["ID", "LAST", "LENGTH", "FIRST QUESTION"], *rows]):
        console.print(fit_to_width(line, width).rstrip())

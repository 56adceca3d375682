"""`qa rm`, `qa prune` and `qa tag`: records are their owner's to change."""

import re
from typing import Annotated

import typer

from qacli.cli.choosing import NEGATIVE_IDS, Which, number_of
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.cli.terminal import Terminal
from qacli.errors import InvalidRequest, NotFound
from qacli.exchange import now, refuse_unfit_tag
from qacli.times import moment

RM = "\b\nExamples:\n  qa rm 12\n  qa rm 12 13 14\n  qa rm last"
PRUNE = (
    "\b\nExamples:\n"
    "  qa prune --older-than 90d                 says what would go\n"
    "  qa prune --older-than 90d --yes\n"
    "  qa prune --older-than 2026-01-01 --keep-tagged --yes"
)
TAG = "\b\nExamples:\n  qa tag 12 +good -draft\n  qa tag last +recipe"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=RM, context_settings=NEGATIVE_IDS)(rm)
    app.command(epilog=PRUNE)(prune)
    # -draft takes a tag off, and is no option either.
    app.command(epilog=TAG, context_settings=NEGATIVE_IDS)(tag)


def rm(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID|last...", help="The records' ids; last; or -2, before the last."
        ),
    ],
) -> None:
    """Remove records, every trace of them from a SQLite file. Their ids are not given again."""
    from qacli.cli.history import counted, open_history, record_at
    from qacli.store.records import no_record
    from qacli.store.removing import scrub

    terminal = Terminal.of_process()
    numbers = [number_of(each) for each in ids]
    store = open_history(load_settings(), terminal)
    # Before anything is removed: then another record is the last.
    numbers = [each if each >= 0 else record_at(store, each).id or 0 for each in numbers]
    removed, missing = 0, []
    for record_id in dict.fromkeys(numbers):
        try:
            store.remove(record_id)
            removed += 1
        except NotFound:
            missing.append(record_id)
    if removed:
        scrub(store, shrink=False)
        terminal.note(f"Removed: {counted(removed, 'record')}.")
    if missing:
        raise no_record(*missing)


def prune(
    *,
    older_than: Annotated[
        str, typer.Option(metavar="WHEN", help="90d, 12w, or a date: what was asked before.")
    ],
    keep_tagged: Annotated[
        bool, typer.Option("--keep-tagged", help="Spare records that have a tag.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it, and not only say it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old records; without --yes, say how many there are.

    Every trace of them goes from a SQLite file, and the file becomes smaller.
    """
    from qacli.cli.history import counted, open_history
    from qacli.store.filters import Filter
    from qacli.store.removing import remove_all

    terminal = Terminal.of_process()
    only = Filter(until=moment(older_than, now()), untagged=keep_tagged)
    store = open_history(load_settings(), terminal)
    number = remove_all(store, only) if yes else store.count(only)
    if as_json:
        terminal.json({"records": number, "removed": yes})
    elif yes:
        terminal.line(f"Removed: {counted(number, 'record')}.")
    else:
        terminal.line(f"Would remove: {counted(number, 'record')}. Say --yes to do it.")


def tag(
    which: Which,
    changes: Annotated[
        list[str], typer.Argument(metavar="+TAG|-TAG...", help="Tags to add and to take off.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Add tags to a record, or take them off."""
    from qacli.cli.history import open_history, record_at

    terminal = Terminal.of_process()
    for change in changes:
        if not re.fullmatch(r"[+-]\S(.*\S)?", change):
            raise InvalidRequest(
                f"{change!r} is no change.", "Write +good to add, -draft to take off."
            )
        refuse_unfit_tag(change[1:])
    number = number_of(which)
    store = open_history(load_settings(), terminal)
    record_id = record_at(store, number).id or 0
    add = [change[1:] for change in changes if change.startswith("+")]
    remove = [change[1:] for change in changes if change.startswith("-")]
    tags = store.tag(record_id, add, remove)
    if as_json:
        terminal.json({"id": record_id, "tags": tags})
    else:
        terminal.line(f"{record_id}: {', '.join(tags) or '(no tags)'}")

"""`qa rm`, `qa prune` and `qa tag`: records are their owner's to change."""

import re
from typing import Annotated

import typer

from qacli.cli.console import Console
from qacli.cli.filters import NEGATIVE_IDS, RecordFilter, parse_record_id
from qacli.cli.options import AsJson
from qacli.cli.settings import load_settings
from qacli.dates import parse_when
from qacli.domain import now
from qacli.errors import InvalidRequest, NotFound
from qacli.validation import validate_tag

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
    from qacli.cli.store import count_noun, open_store, record_at
    from qacli.db.purge import purge_deleted
    from qacli.db.records import record_not_found

    console = Console.from_process()
    numbers = [parse_record_id(each) for each in ids]
    store = open_store(load_settings(), console)
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
        purge_deleted(store, shrink=False)
        console.info(f"Removed: {count_noun(removed, 'record')}.")
    if missing:
        raise record_not_found(*missing)


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
    from qacli.cli.store import count_noun, open_store
    from qacli.db.filters import Filter
    from qacli.db.purge import delete_matching

    console = Console.from_process()
    only = Filter(until=parse_when(older_than, now()), untagged=keep_tagged)
    store = open_store(load_settings(), console)
    number = delete_matching(store, only) if yes else store.count(only)
    if as_json:
        console.print_json({"records": number, "removed": yes})
    elif yes:
        console.print(f"Removed: {count_noun(number, 'record')}.")
    else:
        console.print(f"Would remove: {count_noun(number, 'record')}. Say --yes to do it.")


def tag(
    which: RecordFilter,
    changes: Annotated[
        list[str], typer.Argument(metavar="+TAG|-TAG...", help="Tags to add and to take off.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Add tags to a record, or take them off."""
    from qacli.cli.store import open_store, record_at

    console = Console.from_process()
    for change in changes:
        if not re.fullmatch(r"[+-]\S(.*\S)?", change):
            raise InvalidRequest(
                f"{change!r} is no change.", "Write +good to add, -draft to take off."
            )
        validate_tag(change[1:])
    number = parse_record_id(which)
    store = open_store(load_settings(), console)
    record_id = record_at(store, number).id or 0
    add = [change[1:] for change in changes if change.startswith("+")]
    remove = [change[1:] for change in changes if change.startswith("-")]
    tags = store.change_tags(record_id, add, remove)
    if as_json:
        console.print_json({"id": record_id, "tags": tags})
    else:
        console.print(f"{record_id}: {', '.join(tags) or '(no tags)'}")

"""The record that a question comes from: the question follows it up, or asks it again."""

from dataclasses import dataclass, field
from typing import Any

from qacli.cli.ask_runner import followed_record, options_of_record
from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.errors import InvalidRequest
from qacli.services.follow_up import FollowUpOptions, schema_of


@dataclass(frozen=True, slots=True)
class EarlierRecord:
    """The record that a question comes from, with the settings and options that it gives.

    Attributes:
        settings: The settings, with the profile of that record.
        follows_id: The record that the question follows up.
        repeats_id: The record whose question is asked again.
        options: The options of that record.
        question: Its question, to ask again or to begin with in the editor.
        schema: The JSON schema of its answer, if it is asked again.
        files: The names of its files, if it is asked again.
    """

    settings: Settings
    follows_id: int | None = None
    repeats_id: int | None = None
    options: FollowUpOptions = field(default_factory=FollowUpOptions)
    question: str | None = None
    schema: dict[str, Any] | None = None
    files: tuple[str, ...] = ()


def find_earlier_record(  # noqa: PLR0913 - the options that name a record
    settings: Settings,
    console: Console,
    *,
    last: bool,
    follow: str | None,
    again: str | None,
    edit_last: bool,
) -> EarlierRecord:
    """Return the record that the options name; only the settings if they name none.

    Args:
        settings: The settings of the command.
        console: Prints notes.
        last: `--continue`.
        follow: `--follow`.
        again: `--again`: the id of the record to ask again, or `last`.
        edit_last: `--edit-last`: the question begins as that of the followed, or the last, record.

    Raises:
        NotFound: There is no such record.
        InvalidRequest: The options do not go together, or an id is invalid.
    """
    from qacli.cli.store import open_store

    if again is not None:
        if last or follow is not None or edit_last:
            raise InvalidRequest(
                "--again asks a question again, at the same place of its thread.",
                "Leave out --continue, --follow and --edit-last; --edit goes with it.",
            )
        return _again(again, settings, console)
    record = followed_record(follow, settings, console, last=last)
    if record is None:
        question = open_store(settings, console).newest().question if edit_last else None
        return EarlierRecord(settings, question=question)
    settings, options = options_of_record(record, settings, console)
    question = record.question if edit_last else None
    return EarlierRecord(settings, record.id, options=options, question=question)


def _again(record_id: str, settings: Settings, console: Console) -> EarlierRecord:
    from qacli.cli.filters import parse_record_id
    from qacli.cli.store import open_store, record_at

    record = record_at(open_store(settings, console), parse_record_id(record_id))
    settings, options = options_of_record(record, settings, console)
    return EarlierRecord(
        settings,
        record.follows_id,
        # All answers to one question are tied to its first record.
        repeats_id=record.repeats_id or record.id,
        options=options,
        question=record.question,
        schema=schema_of(record),
        files=tuple(file["name"] for file in record.attachments),
    )

"""The verdicts of a judge: a batch whose questions show two answers and ask which is better.

For about half of the items the two answers are swapped (by a digest of the item's key), so that a
judge's bias for the first answer favours no variant.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any

from qacli.db.batches import Batches
from qacli.domain import Status
from qacli.json_schema import extract_json, response_format

if TYPE_CHECKING:
    from qacli.db.models import Batch

ANSWER_NAMES = ("a", "b")
TIE = "tie"
VERDICT_FORMAT = response_format(
    {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "winner": {"type": "string", "enum": [*ANSWER_NAMES, TIE]},
        },
        "required": ["reason", "winner"],
        "additionalProperties": False,
    }
)
"""The form of a verdict; the reason is first, so that the model writes it before the winner."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on an item.

    Attributes:
        winner: The index (0 or 1) of the variant with the better answer; None means a tie.
        reason: The judge's reason, with the names `a` and `b` as it saw them.
        is_swapped: The judge saw the answer of the second variant as `a`.
        record_id: The record of the verdict.
    """

    winner: int | None
    reason: str
    is_swapped: bool
    record_id: int


def are_answers_swapped(key: str) -> bool:
    """Return whether the judge gets the two answers to the item of this key in reverse order."""
    return bool(sha256(key.encode()).digest()[0] & 1)


def write_pairs(pairs: Iterable[tuple[str, list[dict[str, Any]]]], file: IO[bytes]) -> None:
    """Write a line of JSON for each item: its id, its question and the two answers.

    The question is the one that the first variant has.

    Args:
        pairs: The keys of the items, each with the two records.
        file: The file.
    """
    for key, records in pairs:
        answers = [record["answer"] for record in records]
        if are_answers_swapped(key):
            answers.reverse()
        row = {
            "id": key,
            "question": records[0]["question"],
            **dict(zip(ANSWER_NAMES, answers, strict=True)),
        }
        file.write(json.dumps(row).encode() + b"\n")
    file.flush()


def read_verdicts(batches: Batches, judge: "Batch", keys: Iterable[str]) -> dict[str, Verdict]:
    """Return the verdicts on the items of these keys, as far as there are any."""
    items = batches.finished_by_key(judge.id or 0, list(keys))
    verdicts = {}
    for item in items:
        if item.record is not None and item.record["status"] == Status.ANSWERED:
            verdicts[item.key] = _verdict(item.key, item.record)
    return verdicts


def _verdict(key: str, record: dict[str, Any]) -> Verdict:
    """Return the verdict of an answer, which fits `VERDICT_FORMAT`."""
    value = json.loads(extract_json(record["answer"]))
    is_swapped = are_answers_swapped(key)
    winner = None
    if value["winner"] != TIE:
        index = ANSWER_NAMES.index(value["winner"])
        winner = 1 - index if is_swapped else index
    return Verdict(winner, value["reason"], is_swapped, record["id"])

"""Compare the answers of records: the words in which they differ, and how similar they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from time import thread_time
from typing import TYPE_CHECKING, TypeAlias

from qacli.domain import Status
from qacli.money import usd

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store

WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
MAX_WORDS = 5_000
"""Words of an answer that are compared, from its beginning."""

MAX_SECONDS = 1.0
"""Processor time for two answers: it can grow with the cube of their length."""

MAX_GROUP = 50
"""The number of answers to one question that are compared."""

Piece: TypeAlias = tuple[str, bool]
"""A piece of a text, and True if the other text has it too."""


@dataclass(frozen=True, slots=True)
class TextComparison:
    """A text, compared with a base text.

    Attributes:
        pieces: The whole text; the words after the first `MAX_WORDS` are not compared, and count
            as the same.
        similarity: From 0, no word in common, to 1.
    """

    pieces: list[Piece]
    similarity: float


class _BoundedMatcher(SequenceMatcher[str]):
    """Finds common words until its time is over; the rest then counts as different.

    In long texts no match begins at a word that makes up more than 1 % of the text (`autojunk`),
    which bounds the time of one step.
    """

    def __init__(self, base: Sequence[str], text: Sequence[str], seconds: float) -> None:
        self._end = thread_time() + seconds
        super().__init__(None, base, text)

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> Match:
        if thread_time() > self._end:
            return Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


def compare_texts(base: str, text: str, seconds: float = MAX_SECONDS) -> TextComparison:
    """Compare a text with a base text, word by word, in at most this processor time."""
    words = WORD.findall(text)
    matcher = _BoundedMatcher(WORD.findall(base)[:MAX_WORDS], words[:MAX_WORDS], seconds)
    pieces = [
        ("".join(words[start:end]), operation == "equal")
        for operation, _, _, start, end in matcher.get_opcodes()
        if start != end
    ]
    if rest := "".join(words[MAX_WORDS:]):
        pieces.append((rest, True))
    return TextComparison(pieces, matcher.ratio())


def compare_records(
    records: "Sequence[QuestionAnswer]", seconds: float = MAX_SECONDS
) -> list[TextComparison]:
    """Compare the answers of two or more records, or their errors where there is no answer.

    The first answer has the second as its base; every other answer has the first.

    Args:
        records: The records.
        seconds: Processor time for each of them.
    """
    texts = [record.answer or record.error or "" for record in records]
    bases = [texts[1], *[texts[0]] * (len(texts) - 1)]
    return [compare_texts(base, text, seconds) for base, text in zip(bases, texts, strict=True)]


def same_question(store: "Store", record: "QuestionAnswer") -> "list[QuestionAnswer]":
    """Return the records that answer the question of a record, including this one, sorted by id.

    Of more than `MAX_GROUP` records, the newest are returned, and this one.
    """
    from qacli.db.filters import Filter

    group = Filter(repeats_id=record.repeats_id or record.id)
    newest = store.page(only=group, limit=MAX_GROUP, newest_first=True)
    others = [item for item in newest if item.id != record.id]
    return sorted([record, *others[: MAX_GROUP - 1]], key=lambda item: item.id or 0)


def figures(record: "QuestionAnswer") -> dict[str, str]:
    """Return the status, time, tokens, cost and rating of a record, as far as it has them.

    An answered record has no status here.
    """
    facts: dict[str, str] = {}
    if record.status != Status.ANSWERED:
        facts["status"] = record.status.value
    if record.latency_ms is not None:
        facts["time"] = f"{record.latency_ms / 1000:.1f} s"
    if record.prompt_tokens is not None and record.completion_tokens is not None:
        facts["tokens"] = f"{record.prompt_tokens} + {record.completion_tokens} tokens"
    if record.cost_usd is not None:
        facts["cost"] = usd(record.cost_usd)
    if record.rating is not None:
        facts["rating"] = f"rated {record.rating}"
    return facts

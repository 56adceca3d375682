"""Turn result lines of OpenAI's Batch API into the outcomes of items."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from qacli.batch.options import BatchOptions
from qacli.batch.remote.requests import position_of
from qacli.cost import Pricing
from qacli.db.batch_parts import BatchParts
from qacli.db.batches import ClaimedItem
from qacli.db.extra_models import BatchPart
from qacli.domain import Outcome, Question, Status
from qacli.errors import InvalidRequest, ProviderError, QaError
from qacli.json_schema import validation_error
from qacli.provider.batch_lines import BATCH_TIER, ResultLine
from qacli.provider.response import ChatResponse, ErrorInAnswer
from qacli.provider.think_tags import ThinkTagSplitter
from qacli.schema_repair import is_repairable
from qacli.validation import sanitize_text

MAX_PAGE_LINES = 100
MAX_PAGE_BYTES = 1024 * 1024
"""The lines that are stored in one transaction."""

READ_ERRORS = (ErrorInAnswer, ProviderError, ValueError, RecursionError)


@dataclass(slots=True)
class TakenCounts:
    """The effects of result lines.

    Attributes:
        answered: Items with an answer.
        failed: Items that the provider has refused.
        unfit: Items whose answer does not fit the schema; they wait to be asked directly.
        rest: Items that were not answered and may be asked again.
        ignored: Lines of items that are not open, or of no item.
        unreadable: Lines that are not results.
    """

    answered: int = 0
    failed: int = 0
    unfit: int = 0
    rest: int = 0
    ignored: int = 0
    unreadable: int = 0

    def add(self, other: "TakenCounts") -> None:
        """Add the counts of other lines."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class ResultReader:
    """Reads the results of a batch.

    Attributes:
        options: The options of the batch.
        prices: The prices; results cost half.
        endpoint: The name of the endpoint that has answered.
        map_error: Returns the error for an exception; see `ErrorMapper.map_error`.
    """

    options: BatchOptions
    prices: Pricing
    endpoint: str
    map_error: Callable[..., ProviderError]

    def outcome(self, question: Question, line: ResultLine) -> Outcome | None:
        """Return the outcome of a question; None if the provider has not answered it.

        An outcome is `interrupted` if it was paid for and its item should be asked again.
        """
        if not line.is_executed:
            return None
        response = ChatResponse(
            endpoint=self.endpoint, think_tags=ThinkTagSplitter(), billing_tier=BATCH_TIER
        )
        error: QaError | None
        try:
            line.read_into(response)
            response.finish()
        except READ_ERRORS as exception:
            error = self.map_error(exception, question.params)
            is_again = error.retryable
        else:
            error = validation_error(question.params, response.text)
            is_again = error is not None and is_repairable(error, response.finish_reason)
        if error is not None and is_again and response.usage is None and not response.has_begun:
            return None
        outcome = response.outcome(self.prices)
        # The time of a request in a batch says nothing.
        outcome.latency_ms = outcome.first_token_ms = None
        if error is not None:
            outcome.fail(error)
            outcome.status = Status.INTERRUPTED if is_again else Status.FAILED
        return outcome

    def question(self, item: ClaimedItem, line: ResultLine, asked_at: datetime | None) -> Question:
        """Return the question of an item; the same result always has the same uid.

        Args:
            item: The item.
            line: Its result.
            asked_at: The time at which it was submitted; None if it is unknown.

        Raises:
            InvalidRequest: The item cannot be asked.
        """
        name = line.response_id or line.content.decode("utf-8", "replace")
        text = f"{self.options.batch_id}\n{item.key}\n{name}"
        uid = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        identity: dict[str, Any] = {"uid": uid}
        identity |= {} if asked_at is None else {"created_at": asked_at}
        return self.options.question(item.key, item.payload, **identity)


@dataclass(slots=True)
class ResultPage:
    """Some result lines that are stored together.

    Attributes:
        lines: The results by the id of their request. The first one of an id counts.
        size: The bytes of the lines.
        counts: The numbers of unusable lines.
        max_lines: The number of lines of a full page: more lines take more memory and less time.
    """

    lines: dict[str, ResultLine] = field(default_factory=dict)
    size: int = 0
    counts: TakenCounts = field(default_factory=TakenCounts)
    max_lines: int = MAX_PAGE_LINES

    @property
    def is_full(self) -> bool:
        """True if the page should be stored now."""
        return len(self.lines) >= self.max_lines or self.size >= MAX_PAGE_BYTES

    def add(self, content: bytes) -> None:
        """Parse a result line and add it.

        An unreadable line or a second one of an id is only counted.
        """
        try:
            line = ResultLine.parse(content)
        except ValueError:
            self.counts.unreadable += 1
            return
        custom_id = sanitize_text(line.custom_id)
        if custom_id in self.lines:
            self.counts.ignored += 1
            return
        self.lines[custom_id] = line
        self.size += len(content)

    def store(
        self, parts: BatchParts, reader: ResultReader, part: BatchPart | None = None
    ) -> TakenCounts:
        """Store the outcomes of the lines in one transaction; return their effects.

        Args:
            parts: The database.
            reader: Reads the results.
            part: The part whose items only are settled; None settles all open items.
        """
        part_id = None if part is None else part.id
        asked_at = None if part is None else part.submitted_at
        batch_id = reader.options.batch_id
        counts = self.counts
        items = self._items(parts, batch_id, part_id)
        results: list[tuple[Question, Outcome]] = []
        statuses: Counter[Status] = Counter()
        for item, line in items:
            try:
                question = reader.question(item, line, asked_at)
            except InvalidRequest:
                counts.ignored += 1
                continue
            outcome = reader.outcome(question, line)
            if outcome is None:
                counts.rest += 1
                continue
            statuses[outcome.status] += 1
            results.append((question, outcome))
        counts.ignored += len(self.lines) - len(items)
        stored = parts.store_results(batch_id, results, part_id)
        counts.answered += stored.get(Status.ANSWERED, 0)
        counts.failed += stored.get(Status.FAILED, 0)
        counts.unfit += stored.get(Status.INTERRUPTED, 0)
        counts.ignored += len(results) - sum(stored.values())
        return counts

    def _items(
        self, parts: BatchParts, batch_id: int, part_id: int | None
    ) -> Sequence[tuple[ClaimedItem, ResultLine]]:
        """Return the open items of the lines."""
        places = {custom_id: position_of(custom_id) for custom_id in self.lines}
        by_position = {
            place: self.lines[custom_id] for custom_id, place in places.items() if place is not None
        }
        keys = [custom_id for custom_id, place in places.items() if place is None]
        items = parts.open_items(batch_id, keys, list(by_position), part_id)
        return [(item, by_position.get(item.position) or self.lines[item.key]) for item in items]

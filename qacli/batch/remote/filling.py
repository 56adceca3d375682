"""Distribute the waiting items of a batch over parts, and write the file of a part."""

from collections.abc import Callable
from dataclasses import dataclass
from tempfile import gettempdir
from typing import IO

from qacli.batch.remote.limits import MAX_LINES, MAX_PART_BYTES
from qacli.batch.remote.requests import RequestLines
from qacli.batch_states import PartState
from qacli.db.batch_parts import BatchParts
from qacli.db.batches import BudgetReached, ClaimedItem
from qacli.db.extra_models import BatchPart
from qacli.domain import Outcome, Question
from qacli.errors import DatabaseError, InvalidRequest

PAGE = 200


@dataclass(slots=True)
class _Filling:
    """A part that is being filled: its number of lines, their bytes, and the last position."""

    round_number: int
    part: BatchPart | None = None
    count: int = 0
    size: int = 0
    after: int = -1
    is_full: bool = False


class PartFiller:
    """Makes parts of one model and one API each from the waiting items of a batch.

    Args:
        parts: The database.
        lines: Builds the request lines.
        owner: The worker that fills the parts.
        address: The endpoint's address; see `qacli.batch.run_options.address_of`.
        window: The time within which the provider should answer.
        max_lines: The most items of a part.
        max_bytes: The most bytes of its file.
    """

    def __init__(  # noqa: PLR0913 - what a part depends on, by name
        self,
        parts: BatchParts,
        lines: RequestLines,
        *,
        owner: str,
        address: str,
        window: str,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_PART_BYTES,
    ) -> None:
        self._parts = parts
        self._lines = lines
        self._owner = owner
        self._address = address
        self._window = window
        self._max_lines = max_lines
        self._max_bytes = max_bytes

    def fill(self, round_number: int) -> BatchPart | None:
        """Make the next part; return None if no item waits.

        Items that cannot be asked are stored as failed.

        Args:
            round_number: How often the items were sent before.

        Raises:
            BudgetReached: The budget does not allow a single item.
        """
        filling = _Filling(round_number)
        try:
            while not filling.is_full and (page := self._waiting(filling.after)):
                chosen = [item for item in page if self._choose(item, filling)]
                filling.after = page[-1].position
                if filling.part is not None:
                    self._parts.add_items(filling.part, chosen, self._lines.cost)
        except BudgetReached:
            if filling.part is None:
                raise
            if not self._parts.get(filling.part.id or 0).items:
                self._parts.change(filling.part, state=PartState.DONE)
                raise
        if filling.part is None:
            return None
        return self._parts.change(filling.part, state=PartState.READY)

    def _choose(self, item: ClaimedItem, filling: "_Filling") -> bool:
        """Return whether an item goes into the part; the first item makes the part."""
        if filling.is_full:
            return False
        try:
            line = self._lines.line(item)
            self._check_size(line.content)
        except InvalidRequest as error:
            self._settle(item, error)
            return False
        if filling.part is None:
            filling.part = self._new_part(line.model, line.path, filling.round_number)
        if (line.model, line.path) != (filling.part.model, filling.part.path):
            return False
        size = filling.size + len(line.content)
        filling.is_full = filling.count >= self._max_lines or size > self._max_bytes
        if filling.is_full:
            return False
        filling.count, filling.size = filling.count + 1, size
        return True

    def _waiting(self, after: int) -> list[ClaimedItem]:
        return self._parts.waiting(self._lines.options.batch_id, after, PAGE)

    def _new_part(self, model: str, path: str, round_number: int) -> BatchPart:
        return self._parts.create(
            self._lines.options.batch_id,
            owner=self._owner,
            model=model,
            path=path,
            endpoint=self._address,
            completion_window=self._window,
            round=round_number,
        )

    def _check_size(self, content: bytes) -> None:
        if len(content) > self._max_bytes:
            raise InvalidRequest(
                f"The request has {len(content) / 1e6:.0f} MB, more than the "
                f"{self._max_bytes / 1e6:.0f} MB of a file of the Batch API."
            )

    def _settle(self, item: ClaimedItem, error: InvalidRequest) -> None:
        """Store an item that cannot be asked as failed."""
        batch_id = self._lines.options.batch_id
        question = Question(question=item.payload["question"], batch_id=batch_id, item_key=item.key)
        outcome = Outcome()
        outcome.fail(error)
        self._parts.store_results(batch_id, [(question, outcome)])

    def write(self, part: BatchPart, file: IO[bytes]) -> int:
        """Write the request lines of a part to a file; return their number.

        Raises:
            DatabaseError: The disk has no room.
        """
        after, count = -1, 0
        try:
            while items := self._parts.items(part, after, PAGE):
                after = items[-1].position
                for line in self._lines.lines(items):
                    file.write(line)
                    count += 1
            file.flush()
        except OSError as error:
            raise DatabaseError(
                f"The requests cannot be written to {gettempdir()}: {error.strerror}.",
                "Make room there, or set TMPDIR to another directory.",
            ) from error
        return count


def item_at_line(parts: BatchParts, part: BatchPart) -> Callable[[int], ClaimedItem | None]:
    """Return a function that returns the item in a line of a part's file, from 1."""
    items: list[ClaimedItem] = []
    after = -1
    while page := parts.items(part, after, PAGE):
        after = page[-1].position
        items += page

    def at(line: int) -> ClaimedItem | None:
        return items[line - 1] if 0 < line <= len(items) else None

    return at

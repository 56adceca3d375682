"""Write each settled item to the output once, in order or as the results arrive."""

import threading

from qacli.batch.writer import ResultWriter
from qacli.db.batches import Batches, FinishedItem

PAGE = 100
"""Maximum number of items in memory, because an answer may be long."""


class ResultOutput:
    """Write the results of a batch to its output as its items are settled, by any process.

    Args:
        batches: The database, from which the results are read.
        batch_id: The batch.
        writer: The writer of the results; None writes none.
        unordered: Write results as they arrive, not in the order of the items.
    """

    def __init__(
        self, batches: Batches, batch_id: int, writer: ResultWriter | None, *, unordered: bool
    ) -> None:
        self._batches = batches
        self._batch_id = batch_id
        self._writer = writer
        self._unordered = unordered
        self._lock = threading.Lock()
        self._next_position = 0
        self._is_written = bytearray()

    @property
    def has_reader(self) -> bool:
        """False if the reader of the pipe has closed it, so that no result can be written."""
        return self._writer is None or not self._writer.closed

    def write(self, keys: list[str | None] | None = None) -> None:
        """Write the settled items that have not been written yet.

        Args:
            keys: The only items that can be new; None if any item can be.

        Raises:
            DatabaseError: The database cannot be used, or the output cannot be written.
        """
        if self._writer is None:
            return
        rows = self._writer.table.has_rows
        with self._lock:
            if not self._unordered:
                while items := self._batches.finished(
                    self._batch_id, self._next_position, PAGE, rows=rows
                ):
                    self._writer.write(items)
                    self._next_position = items[-1].position + 1
            elif keys is not None:
                items = self._batches.finished_by_key(self._batch_id, keys, rows=rows)
                self._write_new(self._writer, items)
            else:
                for page in self._batches.all_finished(self._batch_id, rows=rows):
                    self._write_new(self._writer, page)

    def _write_new(self, writer: ResultWriter, items: list[FinishedItem]) -> None:
        if items:
            # Another process may have added items to the batch.
            missing = items[-1].position + 1 - len(self._is_written)
            self._is_written.extend(bytes(max(missing, 0)))
        new = [item for item in items if not self._is_written[item.position]]
        writer.write(new)
        for item in new:
            self._is_written[item.position] = 1

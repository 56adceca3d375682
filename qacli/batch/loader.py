"""Load the file of a batch into the database, or only estimate its cost."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING, Any

from qacli.batch.input_file import InputOptions
from qacli.batch.item_reader import BatchInput, read_items
from qacli.batch.rows import csv_dialect, matching_files, name_of
from qacli.cost import CostEstimate, Pricing
from qacli.errors import DatabaseError, InvalidRequest

if TYPE_CHECKING:
    from qacli.db.batches import Batches
    from qacli.db.models import Batch

CHUNK_SIZE = 1000
PROGRESS_ITEMS = 100_000
"""The number of items after which the progress is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource(InputOptions):
    """The file of a batch, and the options to read it.

    Attributes:
        path: The file; None means standard input.
        spool: A copy of a stream that can be read only once; see `with_temporary_copy`.
    """

    path: Path | None
    spool: IO[bytes] | None = None

    @property
    def location(self) -> str:
        """The absolute path, the same however it is written; a link keeps its own name."""
        path = (self.path or Path("-")).absolute()
        return str(path.resolve() if path.name == ".." else path.parent.resolve() / path.name)

    def items(self) -> Iterator[BatchInput]:
        """Yield the items of the file.

        Raises:
            InvalidRequest: A line cannot be used; the message has its number and the reason.
        """
        return read_items(self.path, self, self.spool)

    def with_temporary_copy(self, stack: ExitStack) -> "BatchSource":
        """Return a source that can be read twice, so that all of it is checked before it is loaded.

        Args:
            stack: Removes the copy at its end.

        Raises:
            DatabaseError: The disk has no room for the copy.
        """
        path = self.path
        if path is not None and (path.is_file() or path.is_dir() or not path.exists()):
            return self
        try:
            spool = TemporaryFile(prefix="qa-batch-")  # noqa: SIM115 - the stack closes it
            stack.enter_context(spool)
            with sys.stdin.buffer if self.path is None else self.path.open("rb") as file:
                copyfileobj(file, spool)
            spool.flush()
        except OSError as error:
            raise DatabaseError(
                f"The input cannot be copied to {gettempdir()}: {error.strerror}.",
                "Make room there, or set TMPDIR to another directory.",
            ) from error
        return replace(self, spool=spool)

    def state(self) -> dict[str, Any]:
        """Return path, size and time of a regular file, to recognise it; empty for other inputs.

        For a directory or a pattern there is a digest of the names, sizes and times of its files.
        """
        if self.form == "files" and self.path is not None:
            states = [
                [name, (status := file.stat()).st_size, status.st_mtime_ns]
                for name, file in matching_files(self.path)
            ]
            digest = sha256(json.dumps(states).encode()).hexdigest()
            return {"path": self.location, "digest": digest}
        if self.path is None or not self.path.is_file():
            return {}
        status = self.path.stat()
        return {
            "path": self.location,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }

    def default_batch_name(self, answer_settings: dict[str, Any]) -> str:
        """Return the name of the batch that asks this file with these options.

        Raises:
            InvalidRequest: The source is standard input, which has no name.
        """
        if self.path is None:
            raise InvalidRequest(
                "A batch from standard input needs a name.", "Give it one: --name NAME"
            )
        key = json.dumps([self.location, answer_settings], sort_keys=True, default=str)
        return f"{name_of(self.path)}-{sha256(key.encode()).hexdigest()[:8]}"

    def is_loaded(self, batch: "Batch | None") -> bool:
        """Return whether the batch has all items of this file, which has not changed since."""
        state = self.state()
        return bool(
            batch is not None
            and batch.items is not None
            and batch.columns is not None
            and state
            and batch.file == state
        )

    def load(
        self,
        batches: "Batches",
        name: str,
        settings: dict[str, Any],
        report: Callable[[str], None],
        *,
        ask_changed: bool = False,
    ) -> "Batch":
        """Check all items, then load all of them in one transaction.

        Args:
            batches: The database.
            name: The batch's name; it is created if it does not exist.
            settings: The options that shape its answers.
            report: Called with a sentence on the progress.
            ask_changed: Ask rows again that have changed since the batch was begun.

        Raises:
            InvalidRequest: A line cannot be used, there is no question, or the batch was begun with
                other items or settings. The database is not changed.
        """
        state = self.state()
        # Not inside the transaction: while it is open, no other process can write to SQLite.
        columns: tuple[str, ...] = ()
        for item in self.items():
            if item.columns != columns and item.columns:
                names = (*columns, *item.columns)
                columns = tuple(dict.fromkeys(names)) if columns else item.columns
        return batches.load(
            name,
            settings,
            _Pages(self, report),
            {
                **state,
                "columns": list(columns),
                "dialect": csv_dialect(self.path, self, self.spool),
            },
            ask_changed=ask_changed,
            report=report,
        )


@dataclass(frozen=True, slots=True)
class _Pages:
    """The items of a source, in the form for the database; they can be read several times."""

    source: BatchSource
    report: Callable[[str], None]
    counts: list[int] = field(default_factory=list)
    """The numbers of items that were reported, each once."""

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        count, items = 0, self.source.items()
        while page := list(islice(items, CHUNK_SIZE)):
            yield [
                {
                    "position": item.position,
                    "key": item.key,
                    "payload": item.stored(),
                    "place": item.place,
                    "has_id": item.has_id,
                }
                for item in page
            ]
            count += len(page)
            if count % PROGRESS_ITEMS == 0 and count not in self.counts:
                self.counts.append(count)
                self.report(f"{count:,} questions read.")


@dataclass(frozen=True, slots=True)
class Forecast:
    """An estimate for a whole batch.

    Attributes:
        questions: The number of questions.
        prompt: Tokens of the questions.
        completion: Tokens of the answers.
        cost: US dollars; None if a model has no price.
    """

    questions: int
    prompt: int
    completion: int
    cost: float | None

    @classmethod
    def of(  # noqa: PLR0913 - all that the cost depends on, by name
        cls,
        items: Iterable[BatchInput],
        *,
        model: str,
        system: str,
        max_tokens: int | None,
        prices: Pricing,
        endpoint: str,
    ) -> "Forecast":
        """Return the estimate for items; the other arguments are the defaults of the batch."""
        questions, prompt, completion, cost, is_priced = 0, 0, 0, 0.0, True
        for item in items:
            params = item.payload.get("params", {})
            messages = params.get("messages")
            item_system = item.payload.get("system", system) or ""
            texts = [str(messages)] if messages else [item_system, item.payload["question"]]
            limit = params.get("max_tokens") or max_tokens
            estimate = CostEstimate.of_prompt(*texts, max_tokens=limit)
            item_cost = estimate.cost(params.get("model", model), prices, endpoint)
            questions, prompt = questions + 1, prompt + estimate.prompt
            completion += estimate.completion
            cost, is_priced = cost + (item_cost or 0.0), is_priced and item_cost is not None
        return cls(questions, prompt, completion, cost if is_priced else None)

"""A batch's file on its way into the database: named, looked through, loaded, or only estimated."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING, Any

from qacli.batch.reader import BatchInput, read_items
from qacli.cost import CostEstimate, Pricing
from qacli.errors import DatabaseError, InvalidRequest

if TYPE_CHECKING:
    from qacli.db.batches import Batches
    from qacli.db.models import Batch

LOAD_CHUNK = 1000
PROGRESS_EVERY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSource:
    """Where a batch's questions come from, and how they are to be read; see `items.read`.

    Attributes:
        path: The file; None is standard input.
        spool: A copy of what can be read only once, see `spooled`.
    """

    path: Path | None
    form: str
    template: str | None = None
    column: str | None = None
    skip_bad: bool = False
    quotes: bool | None = None
    spool: IO[bytes] | None = None

    def items(self) -> Iterator[BatchInput]:
        """The questions.

        Raises:
            InvalidRequest: A line cannot be used; says which and why.
        """
        return read_items(
            self.path,
            form=self.form,
            template=self.template,
            column=self.column,
            skip_bad=self.skip_bad,
            quotes=self.quotes,
            spool=self.spool,
        )

    def spooled(self, stack: ExitStack) -> "BatchSource":
        """Return a source that can be read twice: to be checked whole before any of it is kept.

        Args:
            stack: What removes the copy at its end.

        Raises:
            DatabaseError: There is no room for the copy.
        """
        if self.path is not None and (self.path.is_file() or not self.path.exists()):
            return self
        try:
            spool = TemporaryFile(prefix="qa-batch-")  # noqa: SIM115 - the stack closes it
            stack.enter_context(spool)
            with sys.stdin.buffer if self.path is None else self.path.open("rb") as given:
                copyfileobj(given, spool)
            spool.flush()
        except OSError as error:
            raise DatabaseError(
                f"The input cannot be copied to {gettempdir()}: {error.strerror}.",
                "Make room there, or set TMPDIR to another directory.",
            ) from error
        return replace(self, spool=spool)

    def state(self) -> dict[str, Any]:
        """What tells that a file is still the same; nothing where it is no regular one."""
        if self.path is None or not self.path.is_file():
            return {}
        status = self.path.stat()
        return {
            "path": str(self.path.absolute()),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }

    def name_with(self, shaping: dict[str, Any]) -> str:
        """The name of the batch that asks this file in this way.

        Raises:
            InvalidRequest: Standard input has none.
        """
        if self.path is None:
            raise InvalidRequest(
                "Standard input has no name to go on from.", "Give one: --name NAME"
            )
        told = json.dumps([str(self.path.absolute()), shaping], sort_keys=True, default=str)
        return f"{self.path.name.partition('.')[0]}-{sha256(told.encode()).hexdigest()[:8]}"

    def is_loaded(self, batch: "Batch | None") -> bool:
        """Return whether the batch has all items of this very file."""
        state = self.state()
        return bool(batch is not None and batch.items is not None and state and batch.file == state)

    def load(
        self,
        batches: "Batches",
        name: str,
        settings: dict[str, Any],
        tell: Callable[[str], None],
    ) -> "Batch":
        """Check all items, then bring them into the database in one transaction, all or none.

        Args:
            batches: The database.
            name: The batch; made where there is none.
            settings: What shapes its answers.
            tell: Called with how far it is.

        Raises:
            InvalidRequest: A line cannot be used, there is no question, or what is there is not
                what the batch was begun with. The database is as it was before.
        """
        state = self.state()
        # Before the transaction: no other process can write to SQLite while that is open.
        for _ in self.items():
            pass
        return batches.load(name, settings, self._pages(tell), state)

    def _pages(self, tell: Callable[[str], None]) -> Iterator[list[dict[str, Any]]]:
        count, items = 0, self.items()
        while page := list(islice(items, LOAD_CHUNK)):
            yield [{"position": i.position, "key": i.key, "payload": i.stored()} for i in page]
            count += len(page)
            if count % PROGRESS_EVERY == 0:
                tell(f"{count:,} questions read.")


@dataclass(frozen=True, slots=True)
class Forecast:
    """About what a batch takes.

    Attributes:
        prompt: Tokens that are sent.
        completion: Tokens of the answers.
        cost: US dollars; None where a model has no price.
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
        """For items, with what the batch sets where an item does not."""
        questions, prompt, completion, cost, priced = 0, 0, 0, 0.0, True
        for item in items:
            params = item.payload.get("params", {})
            sent = params.get("messages")
            own_system = item.payload.get("system", system) or ""
            texts = [str(sent)] if sent else [own_system, item.payload["question"]]
            limit = params.get("max_tokens") or max_tokens
            estimate = CostEstimate.of_prompt(*texts, max_tokens=limit)
            one = estimate.cost(params.get("model", model), prices, endpoint)
            questions, prompt = questions + 1, prompt + estimate.prompt
            completion += estimate.completion
            cost, priced = cost + (one or 0.0), priced and one is not None
        return cls(questions, prompt, completion, cost if priced else None)

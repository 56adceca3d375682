"""A batch's file on its way into the database: named, looked through, loaded, or only estimated."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qacli.batch.items import Item, read
from qacli.errors import InvalidRequest
from qacli.prices import Prices, estimated_tokens

if TYPE_CHECKING:
    from qacli.models import Batch
    from qacli.store.batches import Batches

LOADED_AT_ONCE = 1000
TOLD_EVERY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a batch's questions come from, and how they are to be read; see `items.read`.

    Attributes:
        path: The file; None is standard input.
    """

    path: Path | None
    form: str
    template: str | None = None
    column: str | None = None
    skip_bad: bool = False

    def items(self) -> Iterator[Item]:
        """The questions.

        Raises:
            InvalidRequest: A line cannot be used; says which and why.
        """
        return read(
            self.path,
            form=self.form,
            template=self.template,
            column=self.column,
            skip_bad=self.skip_bad,
        )

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

    def look_through(self) -> None:
        """See that all of a file can be used, before any of it is asked or kept.

        Raises:
            InvalidRequest: It cannot.
        """
        # What is no file can be read only once.
        if self.path is not None and (self.path.is_file() or not self.path.exists()):
            for _ in self.items():
                pass

    def load(self, batches: "Batches", batch: "Batch", tell: Callable[[str], None]) -> int:
        """Bring the items into the database, unless the file is the one that is there already.

        Args:
            batches: The database.
            batch: The batch.
            tell: Told how far it is.

        Returns:
            How many there are.

        Raises:
            InvalidRequest: There is none, or what is there is not what the batch was begun with.
        """
        state = self.state()
        if batch.items is not None and state and batch.source == state:
            return batch.items
        count, items = 0, self.items()
        while page := list(islice(items, LOADED_AT_ONCE)):
            batches.add(
                batch.id or 0,
                [{"position": i.position, "key": i.key, "payload": i.stored()} for i in page],
            )
            count += len(page)
            if count % TOLD_EVERY == 0:
                tell(f"{count:,} questions read.")
        if not count:
            raise InvalidRequest("There is no question in the file.", "Give it one a line.")
        if batch.items is not None and count < batch.items:
            raise InvalidRequest(
                f"The file has {count:,} questions, and the batch was begun with {batch.items:,}.",
                "Give the changed file a batch of its own: --name",
            )
        batches.loaded(batch.id or 0, count, state)
        return count


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
    def of(
        cls,
        items: Iterable[Item],
        *,
        model: str,
        system: str,
        max_tokens: int | None,
        prices: Prices,
    ) -> "Forecast":
        """For items, with what the batch sets where an item does not."""
        questions, prompt, completion, cost, priced = 0, 0, 0, 0.0, True
        for item in items:
            params = item.payload.get("params", {})
            sent = params.get("messages")
            own_system = item.payload.get("system", system) or ""
            asked = estimated_tokens(str(sent) if sent else own_system + item.payload["question"])
            answered = int(params.get("max_tokens") or max_tokens or asked)
            one = prices.cost(params.get("model", model), asked, answered)
            questions, prompt, completion = questions + 1, prompt + asked, completion + answered
            cost, priced = cost + (one or 0.0), priced and one is not None
        return cls(questions, prompt, completion, cost if priced else None)

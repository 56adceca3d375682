"""The progress of a batch in this process, and the items that are being asked."""

from asyncio import Task
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

from qacli.domain import Outcome, Status, Turn


@dataclass(slots=True)
class ActiveItem:
    """An item that is being asked.

    Attributes:
        key: The item's key.
        started: The time by `time.monotonic`.
        task: The task that asks it.
        lost: Another worker has taken the item over, so that this task must end.
        cancelled: The task was cancelled for that reason.
        attempt: The number of the attempt, from 1.
        retry_at: The time of the next attempt, by `time.monotonic`; None if it does not wait.
        sent: The request was sent.
        position: The item's position.
        cost: The US dollars of the budget that are reserved for it.
        correction: The request to correct an answer that did not fit its schema; None if there was
            no such answer.
        turns: The question and that answer, which are sent along.
        paid: The cost of that answer in US dollars.
    """

    key: str
    started: float
    position: int
    task: Task[None] | None = None
    lost: bool = False
    cancelled: bool = False
    attempt: int = 1
    retry_at: float | None = None
    sent: bool = False
    cost: float = 0.0
    correction: str | None = None
    turns: list[Turn] = field(default_factory=list)
    paid: float = 0.0


@dataclass(slots=True)
class Progress:
    """The progress of a batch; `BatchRunner` updates it and the display reads it.

    Attributes:
        total: The number of items.
        done: Answered items, by all processes.
        failed: Failed items, by all processes.
        retried: Retries and corrections of this process.
        tokens: Tokens of the answers of this process.
        cost: US dollars so far; None if no cost is known.
        started: The time by `time.monotonic`.
        finished_in_this_run: The number of items that this process has finished.
        active_items: The items that are being asked.
        errors: The last different errors of the provider.
        stopping: The reason why no more questions are sent, for a person; None while they are.
        database_wait_reason: The reason why the batch waits for the database; None otherwise.
        item_wait_reason: The workers that have the last items, while this one has none; or None.
        finished_before_run: The number of items that were finished when this run began.
    """

    total: int
    done: int = 0
    failed: int = 0
    retried: int = 0
    tokens: int = 0
    cost: float | None = None
    started: float = field(default_factory=monotonic)
    finished_in_this_run: int = 0
    active_items: dict[int, ActiveItem] = field(default_factory=dict)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    stopping: str | None = None
    database_wait_reason: str | None = None
    item_wait_reason: str | None = None
    finished_before_run: int = field(init=False)

    def __post_init__(self) -> None:
        self.finished_before_run = self.finished

    @property
    def finished(self) -> int:
        """The number of items that are answered or have failed, in all processes."""
        return min(self.done + self.failed, self.total)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome of this process."""
        self.finished_in_this_run += 1
        if outcome.status is Status.ANSWERED:
            self.done += 1
        elif outcome.status is Status.FAILED:
            self.failed += 1
        self.tokens += (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)

    def add_error(self, message: str) -> None:
        """Add an error of the provider, unless it is the last one."""
        if not self.errors or self.errors[-1] != message:
            self.errors.append(message)

    def update(self, states: dict[str, int]) -> None:
        """Raise the counts to those of the database, which has the results of other processes too.

        The counts never decrease: results of this process may not be in the database yet.
        """
        self.total = max(self.total, sum(states.values()))
        self.done = max(self.done, states["answered"])
        self.failed = max(self.failed, states["failed"])

"""What a run of a batch is to do, and how far it is."""

from asyncio import Task
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from qacli.domain import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a batch is to be asked.

    Attributes:
        batch_id: The batch.
        model: For items that name none; as system and params.
        jobs: The most to have in flight.
        retries: How often to ask an item again.
        timeout: Seconds for one attempt, body included.
        rpm: The most requests a minute; None is no limit of ours; as tpm, for tokens.
        max_cost: US dollars not to be passed.
        unordered: Write results as they come, instead of in the order of the items.
        grace: Seconds that items in flight get when the batch is told to stop.
        max_outage: Seconds for which a database, or a provider, that is away is waited for.
    """

    batch_id: int
    model: str
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    jobs: int = 32
    retries: int = 10
    timeout: float = 600.0
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    unordered: bool = False
    grace: float = 5.0
    max_outage: float = 60.0


@dataclass(slots=True)
class InFlightItem:
    """An item that is being asked.

    Attributes:
        task: What asks it.
        lost: Whether another worker has taken the item over, so that this flight has to end.
        cancelled: Whether the task was cancelled for that.
        sent: Whether it has left this machine.
        cost: What it is likely to cost, in US dollars.
        correction: What asks for an answer that fits, after one that did not.
        turns: The question and that answer; they go along.
        paid: What that answer has cost.
    """

    key: str
    started: float
    task: Task[None] | None = None
    lost: bool = False
    cancelled: bool = False
    attempt: int = 1
    waiting: bool = False
    sent: bool = False
    cost: float = 0.0
    correction: str = ""
    turns: list[Turn] = field(default_factory=list)
    paid: float = 0.0


@dataclass(slots=True)
class Progress:
    """What a display shows; the engine keeps it up to date.

    Attributes:
        before: How many items were settled when this run began.
        this_run: How many this process has settled.
    """

    total: int
    done: int = 0
    failed: int = 0
    retried: int = 0
    tokens: int = 0
    cost: float | None = None
    started: float = field(default_factory=monotonic)
    this_run: int = 0
    flights: dict[int, InFlightItem] = field(default_factory=dict)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    stopping: str = ""
    held_up: str = ""
    before: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.finished

    @property
    def finished(self) -> int:
        """The number of items that are answered or have failed, in all processes."""
        return min(self.done + self.failed, self.total)

    def update(self, states: dict[str, int]) -> None:
        """Take in what the database has: other processes may work on the batch, too.

        What this one has just settled may not be in it yet, so nothing is counted back.
        """
        self.total = max(self.total, sum(states.values()))
        self.done = max(self.done, states["answered"])
        self.failed = max(self.failed, states["failed"])

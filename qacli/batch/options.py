"""The options of a batch run, its progress, and the reasons why it stops."""

from asyncio import Task
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import Any

from qacli.config.settings import LEASE_SECONDS
from qacli.domain import Outcome, Question, Status, Turn
from qacli.errors import InvalidRequest
from qacli.model_options import check_params, merge_params

DEFAULT_JOBS = 32
DEFAULT_RETRIES = 10


class StopReason(Enum):
    """The reason why a run of a batch stops before its end."""

    SIGNAL = auto()
    CANCELLED = auto()
    OUTPUT_CLOSED = auto()
    BUDGET = auto()
    ERROR = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """The options of a run of a batch.

    Attributes:
        batch_id: The batch.
        model: The model for items without their own; as system and params.
        aliases: The names of models by the names that the user has given them.
        default_params: Returns the options of a model that neither an item nor the batch sets.
        jobs: Maximum concurrent requests.
        retries: Maximum retries for each item.
        timeout: Seconds for one attempt, including the body.
        rpm: Maximum requests per minute; None is no limit.
        tpm: Maximum tokens per minute; None is no limit.
        unordered: Write results as they arrive, not in the order of the items.
        grace: Seconds that items in flight get when the batch is stopped.
        max_outage: Seconds to wait for a database or a provider that cannot be reached.
        lease_seconds: Seconds after which other workers take over the claims of one that does not
            renew its lease.
        max_failures: See `qacli.batch.stop_rules.StopRules`; as max_wait.
    """

    batch_id: int
    model: str
    system: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    default_params: Callable[[str], Mapping[str, Any]] = lambda _model: {}
    jobs: int = DEFAULT_JOBS
    retries: int = DEFAULT_RETRIES
    timeout: float = 600.0
    rpm: float | None = None
    tpm: float | None = None
    unordered: bool = False
    grace: float = 5.0
    max_outage: float = 60.0
    lease_seconds: float = LEASE_SECONDS
    max_failures: int = 20
    max_wait: float = 3600.0

    def question(self, key: str, payload: dict[str, Any], **identity: Any) -> Question:  # noqa: ANN401
        """Return the question of an item; its own settings override those of the batch.

        Args:
            key: The item's key.
            payload: The item's payload; see `qacli.batch.reader.BatchInput.stored`.
            identity: The `uid` and the `created_at` of the question, if it has them already.

        Raises:
            InvalidRequest: The item cannot be asked.
        """
        if "error" in payload:
            raise InvalidRequest(payload["error"])
        own = payload.get("params", {})
        model = own.get("model", self.model)
        model = self.aliases.get(model, model)
        params = merge_params({"model": model}, own, self.params, self.default_params(model))
        check_params(params)
        return Question(
            question=payload["question"],
            system=payload.get("system", self.system),
            params=params,
            tags=payload.get("tags", []),
            batch_id=self.batch_id,
            item_key=key,
            **identity,
        )


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

"""The options of a batch run, and the reasons why it stops."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from qacli.config.defaults import LEASE_SECONDS
from qacli.domain import Question
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
        model: The model for items without their own.
        system: The system prompt for items without their own.
        params: The options that go to the model, for items without their own.
        aliases: The names of models by the names that the user has given them.
        default_params: Returns the options of a model that neither an item nor the batch sets.
        jobs: Maximum concurrent requests.
        retries: Maximum retries for each item.
        timeout: Seconds for one attempt, including the body.
        rpm: Maximum requests per minute; None means no limit.
        tpm: Maximum tokens per minute; None means no limit.
        unordered: Write results as they arrive, not in the order of the items.
        grace: Seconds that items in flight get when the batch is stopped.
        max_outage: Seconds to wait for a database or a provider that cannot be reached.
        lease_seconds: Seconds after which other workers take over the claims of one that does not
            renew its lease.
        max_failures: See `qacli.batch.stop_rules.StopRules`.
        max_wait: See `qacli.batch.stop_rules.StopRules`.
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
            payload: The item's payload; see `qacli.batch.item_reader.BatchInput.stored`.
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

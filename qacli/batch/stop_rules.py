"""Decide when a batch stops, because more questions would fail as well."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from qacli.batch.options import BatchOptions
from qacli.errors import ProviderError, ProviderUnavailable, QaError

MIN_FAILING_ITEMS = 5
"""Minimum number of items that fail in a row before an outage or a wrong key is assumed."""

FORBIDDEN = 403
CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True, slots=True)
class _Refusals:
    """The refusals of one model in a row: their status and code, and the keys of their items."""

    reason: tuple[int | None, object]
    keys: set[str] = field(default_factory=set)


class StopRules:
    """The rules of one run of a batch; an answer of any item resets their counts.

    Args:
        max_failures: Items of a model in a row that the provider refuses with the same status and
            code (4xx) before the run stops; 0 is no limit.
        max_outage: Seconds without an answer after which the provider counts as away.
        max_wait: Maximum seconds of a `Retry-After` header that are waited for.
        now: The present time, in seconds of a monotonic clock.
    """

    def __init__(
        self, *, max_failures: int, max_outage: float, max_wait: float, now: float
    ) -> None:
        self._max_failures = max_failures
        self._max_outage = max_outage
        self._max_wait = max_wait
        self._answered_at = now
        self._has_answered = False
        self._failing: set[str] = set()
        self._refusals: dict[str, _Refusals] = {}

    @classmethod
    def of(cls, options: BatchOptions, now: float) -> "StopRules":
        """Return the rules with the options of a batch."""
        return cls(
            max_failures=options.max_failures,
            max_outage=options.max_outage,
            max_wait=options.max_wait,
            now=now,
        )

    @property
    def refused_keys(self) -> set[str]:
        """The items of the refusals in a row, of all models."""
        return {key for refusals in self._refusals.values() for key in refusals.keys}

    def on_answered(self, now: float, model: str = "") -> bool:
        """Count an answer of a model; return whether it is the first one after an outage."""
        was_away = len(self._failing) >= MIN_FAILING_ITEMS
        self._answered_at, self._has_answered = now, True
        self._failing.clear()
        self._refusals.pop(model, None)
        return was_away

    def on_error(
        self, key: str, error: ProviderError, now: float, model: str = ""
    ) -> QaError | None:
        """Count a failed attempt; return the error that stops the run, or None.

        Args:
            key: The key of the item.
            error: The error of the attempt.
            now: The present time.
            model: The model that was asked: answers of another one do not reset its refusals.
        """
        self._failing.add(key)
        if error.fatal:
            return error
        if error.retry_after is not None and error.retry_after > self._max_wait:
            return _wait_error(error, error.retry_after)
        if error.retryable:
            return error if self._is_outage(now) else None
        return self._stop_on_refusals(key, error, model)

    def _is_outage(self, now: float) -> bool:
        """Return whether the provider seems to be away: not only a few items fail."""
        is_long = now - self._answered_at > self._max_outage
        return is_long and (not self._has_answered or len(self._failing) >= MIN_FAILING_ITEMS)

    def _stop_on_refusals(self, key: str, error: ProviderError, model: str) -> QaError | None:
        status = error.provider_status
        if status not in CLIENT_ERRORS:
            return None
        reason = (status, error.details.get("code"))
        refusals = self._refusals.get(model)
        if refusals is None or refusals.reason != reason:
            refusals = self._refusals[model] = _Refusals(reason)
        refusals.keys.add(key)
        count = len(refusals.keys)
        if status == FORBIDDEN and not self._has_answered and count >= MIN_FAILING_ITEMS:
            return error
        if not self._max_failures or count < self._max_failures:
            return None
        return type(error)(
            f"The provider refused {count} questions in a row: {error.what}",
            f"{error.todo} Then run the same command again; "
            "--max-failures 0 asks all questions in any case.".strip(),
            provider_status=status,
            details=error.details,
        )


def _wait_error(error: ProviderError, seconds: float) -> ProviderUnavailable:
    """Return the error for a provider that asks to wait for longer than is allowed."""
    # Show at most a year: a larger number may give no valid date.
    until = datetime.now().astimezone() + timedelta(seconds=min(seconds, 366 * 86_400))
    return ProviderUnavailable(
        f"The provider asks to wait until {until:%Y-%m-%d %H:%M}: {error.what}",
        "Run the same command again then, or allow a longer wait with --max-wait.",
        provider_status=error.provider_status,
        retry_after=seconds,
        details=error.details,
    )

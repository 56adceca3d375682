"""Decide when a batch stops, because asking more of its questions is of no use."""

from datetime import datetime, timedelta

from qacli.errors import ProviderError, ProviderUnavailable, QaError

MIN_FAILING_ITEMS = 5
"""Items that fail in a row without which neither an outage nor a wrong key is assumed."""

FORBIDDEN = 403
CLIENT_ERRORS = range(400, 500)


class StopRules:
    """The rules of one run of a batch; an answer of any item resets their counts.

    Args:
        max_failures: Items in a row that the provider refuses with the same status and code (4xx)
            before the run stops; 0 is no limit.
        max_outage: Seconds without an answer after which the provider counts as away.
        max_wait: Maximum seconds of a `Retry-After` header that are waited for.
        now: The present time, in seconds of a monotonic clock.

    Attributes:
        refused_keys: The items of the refusals in a row.
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
        self.refused_keys: set[str] = set()
        self._refusal: tuple[int | None, object] = (None, None)

    def on_answered(self, now: float) -> None:
        """Count an answer."""
        self._answered_at, self._has_answered = now, True
        self._failing.clear()
        self.refused_keys.clear()

    def on_error(self, key: str, error: ProviderError, now: float) -> QaError | None:
        """Count a failed attempt; return the error that the run stops with, None: it goes on.

        Args:
            key: The key of the item.
            error: The error of the attempt.
            now: The present time.
        """
        self._failing.add(key)
        if error.fatal:
            return error
        if error.retry_after is not None and error.retry_after > self._max_wait:
            return _wait_error(error, error.retry_after)
        if error.retryable:
            return error if self._is_outage(now) else None
        return self._stop_on_refusals(key, error)

    def _is_outage(self, now: float) -> bool:
        """Return True if the provider seems to be away, and not only a few items fail."""
        is_long = now - self._answered_at > self._max_outage
        return is_long and (not self._has_answered or len(self._failing) >= MIN_FAILING_ITEMS)

    def _stop_on_refusals(self, key: str, error: ProviderError) -> QaError | None:
        status = error.provider_status
        if status not in CLIENT_ERRORS:
            return None
        refusal = (status, error.details.get("code"))
        if refusal != self._refusal:
            self._refusal = refusal
            self.refused_keys.clear()
        self.refused_keys.add(key)
        count = len(self.refused_keys)
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
    # A year is enough to say "not soon", and any larger number may be no date.
    until = datetime.now().astimezone() + timedelta(seconds=min(seconds, 366 * 86_400))
    return ProviderUnavailable(
        f"The provider asks to wait until {until:%Y-%m-%d %H:%M}: {error.what}",
        "Run the same command again then, or allow a longer wait with --max-wait.",
        provider_status=error.provider_status,
        retry_after=seconds,
        details=error.details,
    )

"""An adapter of the batch's pace for a simulator of providers in virtual time.

The simulator calls these methods in place of `qacli.batch.runner`; the class keeps the requests in
flight, and waits as the runner does before an item is asked again.
"""

from collections.abc import Callable, Mapping
from random import Random

from qacli.batch.limiter import AdaptiveLimiter
from qacli.provider.retry import backoff


class LabLimiter:
    """The limiter, with the names that the simulator uses."""

    wants_t = True

    def __init__(self, jobs: int, clock: Callable[[], float]) -> None:
        self._limiter = AdaptiveLimiter(jobs, clock=clock)

    def delay(self) -> float | None:
        """Return the seconds until the next request; None while too many are in flight."""
        return self._limiter.delay()

    def sent(self, tokens: int) -> None:
        """Count a request."""
        self._limiter.on_sent(tokens)

    def accepted(self, headers: Mapping[str, str], t_sent: float) -> None:
        """Count an answer."""
        del t_sent
        self._limiter.on_success(headers)

    def refuse(
        self, reason: str, retry_after: float | None, headers: Mapping[str, str], t_sent: float
    ) -> None:
        """Count a refusal."""
        del retry_after
        self._limiter.on_throttled(reason, headers, t_sent)

    def ended(self) -> None:
        """Count the end of a request."""
        self._limiter.on_finished()

    @staticmethod
    def item_wait(attempt: int, retry_after: float | None, random: Random) -> float:
        """Return the seconds until an item is asked for the time `attempt`, from 1."""
        return backoff(attempt - 1, retry_after, random.random)

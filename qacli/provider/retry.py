"""The rules by which a request is sent again, and the time before that.

The errors that may be retried: `error_kinds.is_retryable`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import random as random_part

from qacli.errors import ProviderError, QaError

MAX_BACKOFF_SECONDS = 20.0
MAX_EXPONENT = 10


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that failed is sent again.

    Attributes:
        error: The error that it ended in.
        delay: Seconds until it is sent again.
        attempt: How often it has been sent so far.
    """

    error: ProviderError
    delay: float
    attempt: int


def retry_delay(error: QaError | None, attempt: int, retries: int) -> float | None:
    """Return the seconds after which to send a request again; None: it is not sent again.

    Args:
        error: The error that it ended in.
        attempt: How often it has been sent.
        retries: How often it may be sent again.
    """
    if not isinstance(error, ProviderError) or not error.retryable or attempt > retries:
        return None
    return backoff(attempt, error.retry_after)


def backoff(
    attempt: int, retry_after: float | None, random: Callable[[], float] = random_part
) -> float:
    """Return the seconds to wait: a little more than `retry_after`, or exponential with jitter.

    Args:
        attempt: How often the request has been sent.
        retry_after: The seconds in the header `Retry-After`, if there is one.
        random: Returns a number from 0 to 1.
    """
    if retry_after is not None:
        # Clients that were given the same time should not all return at the same moment.
        return retry_after + random() * min(0.25, retry_after)
    longest = min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** min(attempt, MAX_EXPONENT))
    return random() * longest

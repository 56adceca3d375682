"""All errors of qa, each with its exit code and HTTP status, which are defined only here.

QaError                      1  500  an unexpected error in qa
├── InvalidRequest           2  422  the question or an option cannot be used as given
├── NotConfigured            3  503  no key, no endpoint, or an invalid setting
├── NotFound                 4  404  no such record
├── Unauthorized             -  401  the server's client has no valid token
├── Forbidden                -  403  the request may come from another web site
├── StillAsking              -  409  the first request with this idempotency key still runs
├── AlreadyFinished          -  409  the answer that a request cancels has ended already
├── RateLimited              -  429  the client has reached its rate limit
├── BudgetSpent              -  429  the client has spent its budget
├── Busy                     -  503  the server has reached its limit of concurrent questions
├── ProviderError
│   ├── KeyRejected          3  502  the provider rejects the key
│   ├── ProviderRefused      5  502  the provider answered 4xx: a retry does not help
│   │   └── ModelNotFound             it does not serve the model, or no longer
│   └── ProviderUnavailable  6  503  the provider is overloaded or failing
│       ├── ProviderUnreachable  502  no connection, or the connection broke
│       ├── ProviderTimeout      504  no answer within the timeout
│       ├── SharedLimitReached   429  the limits that processes share allow no request in time
│       ├── BrokenAnswer         502  the answer is empty, incomplete or not valid
│       └── UnfitAnswer          502  the answer is complete but does not fit the schema
├── DatabaseError            7  503  the database cannot be used
│   ├── SchemaMismatch               its schema is older or newer than this program
│   ├── RecordRefused                it cannot store this record; a retry does not help
│   └── OutboxUnwritable             the question cannot be saved before it is asked
└── Interrupted            130  503  stopped by the user or by a signal
    └── Cancelled               409  a client of the server has cancelled the answer

Every error has two sentences: what happened, and what the user can do.
"""

from collections.abc import Iterator
from functools import cache
from typing import ClassVar


class QaError(Exception):
    """The base class of all errors.

    Args:
        what: One sentence: what happened.
        todo: One sentence: what the user can do; may be empty.
        retry_after: Seconds to wait before a retry, if known.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    kind: ClassVar[str] = "unexpected"

    retry_after: float | None = None

    def __init__(self, what: str, todo: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(what, todo)
        self.what = what
        self.todo = todo
        if retry_after is not None:
            self.retry_after = retry_after
        self.record_id: int | None = None
        """The record of the question that failed with this error, if there is one."""

    def __init_subclass__(
        cls, *, exit_code: int | None = None, status: int | None = None, kind: str | None = None
    ) -> None:
        """Set the values that a class declares after its base; the others are inherited."""
        for name, value in {"exit_code": exit_code, "status": status, "kind": kind}.items():
            if value is not None:
                setattr(cls, name, value)

    def __str__(self) -> str:
        return f"{self.what} {self.todo}".strip()


class InvalidRequest(QaError, exit_code=2, status=422, kind="invalid-request"):
    """The question or an option is not valid."""


class NotConfigured(QaError, exit_code=3, status=503, kind="not-configured"):
    """No key, no endpoint, or an invalid setting."""


class NotFound(QaError, exit_code=4, status=404, kind="not-found"):
    """No such record."""


class Unauthorized(QaError, status=401, kind="unauthorized"):
    """The token is missing or wrong."""


class Forbidden(QaError, status=403, kind="forbidden"):
    """The request may come from another web site."""


class StillAsking(QaError, status=409, kind="still-asking"):
    """The first request with the same idempotency key has no answer yet."""


class AlreadyFinished(QaError, status=409, kind="already-finished"):
    """The answer that a request cancels has ended already."""


class RateLimited(QaError, status=429, kind="rate-limited"):
    """The client has reached its rate limit."""

    retry_after = 1


class BudgetSpent(QaError, status=429, kind="budget-spent"):
    """The client has spent its budget."""


class Busy(QaError, status=503, kind="busy"):
    """The server has reached its limit of concurrent questions."""

    retry_after = 1


class ProviderError(QaError):
    """A failure of the provider; it is stored in the record.

    Args:
        what: One sentence: what happened, without secrets.
        todo: One sentence: what the user can do.
        provider_status: The HTTP status of the provider's response, if there was one.
        retry_after: Seconds to wait before a retry, if the provider sent them.
        retryable: The same request may succeed when it is sent again.
        fatal: No request can succeed until the user changes something, for example the key.
        details: The `status`, `code`, `type` and `param` of the provider's error, where known.
    """

    def __init__(  # noqa: PLR0913 - the attributes of a failure, by name
        self,
        what: str,
        todo: str = "",
        *,
        provider_status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        fatal: bool = False,
        details: dict[str, str | int] | None = None,
    ) -> None:
        super().__init__(what, todo, retry_after=retry_after)
        self.provider_status = provider_status
        self.retryable = retryable
        self.fatal = fatal
        self.details = details or {}


class KeyRejected(ProviderError, exit_code=3, status=502, kind="key-rejected"):
    """The provider rejects the key."""


class ProviderRefused(ProviderError, exit_code=5, status=502, kind="provider-refused"):
    """The provider answered 4xx: a retry does not help."""


class ModelNotFound(ProviderRefused, kind="model-not-found"):
    """The provider does not serve the model, or no longer."""


class ProviderUnavailable(ProviderError, exit_code=6, status=503, kind="provider-unavailable"):
    """The provider is overloaded or failing."""


class ProviderUnreachable(ProviderUnavailable, status=502, kind="provider-unreachable"):
    """No connection to the provider, or the connection broke."""


class ProviderTimeout(ProviderUnavailable, status=504, kind="provider-timeout"):
    """No answer within the timeout."""


class SharedLimitReached(ProviderUnavailable, status=429, kind="shared-limit-reached"):
    """The limits that processes with the same key share allow no request in time."""


class BrokenAnswer(ProviderUnavailable, status=502, kind="broken-answer"):
    """The answer is empty, incomplete or not valid."""


class UnfitAnswer(ProviderUnavailable, status=502, kind="unfit-answer"):
    """The answer is complete but does not fit the requested schema."""


class DatabaseError(QaError, exit_code=7, status=503, kind="database"):
    """The database cannot be used."""


class SchemaMismatch(DatabaseError, kind="schema-mismatch"):
    """The schema is older or newer than this program."""


class RecordRefused(DatabaseError, kind="record-refused"):
    """The database cannot store this record; a retry does not help."""


class OutboxUnwritable(DatabaseError, kind="outbox-unwritable"):
    """The question cannot be saved before it is asked."""


class Interrupted(QaError, exit_code=130, status=503, kind="interrupted"):
    """Stopped by the user or by a signal."""


class Cancelled(Interrupted, status=409, kind="cancelled"):
    """A client has cancelled the answer; the part that had arrived is kept."""


def error_classes() -> Iterator[type[QaError]]:
    """Return every class of error, the base first."""
    classes = [QaError]
    while classes:
        error = classes.pop()
        yield error
        classes += error.__subclasses__()


@cache
def error_kinds() -> frozenset[str]:
    """Return the kinds of all errors: the values of a record's `error_kind`."""
    return frozenset(error.kind for error in error_classes())

"""What can go wrong, each with its exit code and its HTTP status; nothing else maps them.

QaError                      1  500  a mistake of ours
├── InvalidRequest           2  422  the question or an option cannot be used as given
├── NotConfigured            3  503  no key, no endpoint, or a setting that makes no sense
├── NotFound                 4  404  no such record
├── Unauthorized             -  401  a client of the server without the right token
├── Forbidden                -  403  a request that a web page elsewhere may have made
├── StillAsking              -  409  the first request with the same idempotency key goes on
├── RateLimited              -  429  a client that has asked as often as it may for now
├── Busy                     -  503  the server has as many questions in flight as it may
├── ProviderError
│   ├── KeyRejected          3  502  the provider does not accept the key
│   ├── ProviderRefused      5  502  the provider answered 4xx: asking again will not help
│   └── ProviderUnavailable  6  503  the provider is overloaded or failing
│       ├── ProviderUnreachable  502  no connection, or one that broke
│       ├── ProviderTimeout      504  no answer within the time allowed
│       ├── BrokenAnswer         502  an answer came, but not one that can be used
│       └── UnfitAnswer          502  an answer came whole, and does not fit the schema
├── DatabaseError            7  503  the database cannot be used
│   ├── SchemaMismatch               its schema is older or newer than this program
│   ├── RecordRefused                it will never take this record as it is
│   └── OutboxUnwritable             the question cannot be noted before it is asked
└── Interrupted            130  503  stopped by the person, or by a signal

Every error is two sentences: what happened, and what to do about it.
"""

from collections.abc import Iterator
from functools import cache
from typing import ClassVar


class QaError(Exception):
    """The base of all: something went wrong that a sentence can explain.

    Args:
        what: One sentence that says what happened.
        todo: One sentence that says what to do, or nothing where there is nothing to do.
        retry_after: Seconds after which to ask again, where that is known.
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
        """The record that keeps the question which ended so, where there is one."""

    def __str__(self) -> str:
        return f"{self.what} {self.todo}".strip()


class InvalidRequest(QaError):
    """The question or an option cannot be used as given."""

    exit_code = 2
    status = 422
    kind = "invalid-request"


class NotConfigured(QaError):
    """No key, no endpoint, or a setting that makes no sense."""

    exit_code = 3
    status = 503
    kind = "not-configured"


class NotFound(QaError):
    """No such record."""

    exit_code = 4
    status = 404
    kind = "not-found"


class Unauthorized(QaError):
    """The token is missing or wrong."""

    status = 401
    kind = "unauthorized"


class Forbidden(QaError):
    """The request may come from a web page elsewhere."""

    status = 403
    kind = "forbidden"


class StillAsking(QaError):
    """The first request with the same idempotency key has no answer yet."""

    status = 409
    kind = "still-asking"


class RateLimited(QaError):
    """The client has asked as often as it may for now."""

    status = 429
    kind = "rate-limited"
    retry_after = 1


class Busy(QaError):
    """The server has as many questions in flight as it may."""

    status = 503
    kind = "busy"
    retry_after = 1


class ProviderError(QaError):
    """What came, or did not come, from the provider; kept with the record.

    Args:
        what: One sentence that says what happened, without secrets.
        todo: One sentence that says what to do.
        provider_status: The HTTP status that the provider answered with, where it did.
        retry_after: Seconds after which the provider wants to be asked again, where it said so.
        retryable: Whether the same request may succeed when it is sent again.
        fatal: Whether no request can succeed until a person changes something, the key say.
    """

    def __init__(  # noqa: PLR0913 - what is known of a failure, by name
        self,
        what: str,
        todo: str = "",
        *,
        provider_status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        fatal: bool = False,
    ) -> None:
        super().__init__(what, todo, retry_after=retry_after)
        self.provider_status = provider_status
        self.retryable = retryable
        self.fatal = fatal


class KeyRejected(ProviderError):
    """The provider does not accept the key."""

    exit_code = 3
    status = 502
    kind = "key-rejected"


class ProviderRefused(ProviderError):
    """The provider answered 4xx: asking again will not help."""

    exit_code = 5
    status = 502
    kind = "provider-refused"


class ProviderUnavailable(ProviderError):
    """The provider is overloaded or failing."""

    exit_code = 6
    status = 503
    kind = "provider-unavailable"


class ProviderUnreachable(ProviderUnavailable):
    """No connection to the provider, or one that broke."""

    status = 502
    kind = "provider-unreachable"


class ProviderTimeout(ProviderUnavailable):
    """No answer within the time allowed."""

    status = 504
    kind = "provider-timeout"


class BrokenAnswer(ProviderUnavailable):
    """An answer came, but not one that can be used."""

    status = 502
    kind = "broken-answer"


class UnfitAnswer(ProviderUnavailable):
    """An answer came whole, and does not fit the schema that was asked for."""

    status = 502
    kind = "unfit-answer"


class DatabaseError(QaError):
    """The database cannot be used."""

    exit_code = 7
    status = 503
    kind = "database"


class SchemaMismatch(DatabaseError):
    """The schema is older or newer than this program."""

    kind = "schema-mismatch"


class RecordRefused(DatabaseError):
    """The database will never take this record as it is."""

    kind = "record-refused"


class OutboxUnwritable(DatabaseError):
    """The question cannot be noted before it is asked."""

    kind = "outbox-unwritable"


class Interrupted(QaError):
    """Stopped by the person, or by a signal."""

    exit_code = 130
    status = 503
    kind = "interrupted"


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

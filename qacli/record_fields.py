"""The only list of the fields of a record, with their meanings and types.

A field of a record is an attribute of `Question` or `Outcome`, which gives its type, a column of
`QuestionAnswer`, and a line of `MEANINGS`. Everything else follows from these: exports, imports,
the journal, Parquet, OpenAPI and the table in docs/record.md.
"""

from dataclasses import fields
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from qacli.domain import Outcome, Question

MEANINGS = {
    "id": "The number in `/qa/{id}`; never used twice.",
    "question": "The text of the question, byte for byte.",
    "answer": "The text of the answer; of an incomplete answer the part that arrived, or null.",
    "created_at": "The time of the question, in UTC.",
    "status": "`asking`, `answered`, `failed` or `interrupted`.",
    "error_kind": "The kind of the error, such as `provider-refused`; null without an error.",
    "error": "The provider's own message, without secrets.",
    "answered_at": "The time at which the answer was complete.",
    "latency_ms": "Milliseconds until the answer was complete.",
    "first_token_ms": "Milliseconds until the first piece of the answer.",  # nosec B105 - the key is the name of a field, not a secret
    "model": "The model that answered, as the provider names it.",
    "provider_response_id": "The id that the provider gave the answer.",
    "finish_reason": "The reason why the answer ended, such as `stop` or `length`.",
    "system": "The system prompt.",
    "params": "The requested model and the other parameters of the request.",
    "prompt_tokens": "Tokens of the request, as the provider counts them; null if unknown.",
    "completion_tokens": "Tokens of the answer, as the provider counts them; null if unknown.",
    "cached_tokens": "The part of `prompt_tokens` that came from the provider's cache.",
    "reasoning_tokens": "The part of `completion_tokens` that is reasoning.",
    "cost_usd": "US dollars; null if the price is unknown.",
    "follows_id": "The record that this one follows up.",
    "corrects_id": "The record whose answer did not fit its schema. This one asks for it again.",
    "batch_id": "The number of its batch; null without a batch.",
    "item_key": "The key of its item in the batch.",
    "idempotency_key": "The `Idempotency-Key` of the HTTP request.",
    "tags": "Its tags.",
    "uid": "An id that no other question has, in any database.",
    "attachments": "The files before the question, each with `name`, `size` and `sha256`.",
    "caller": "The name of the token of the HTTP request, which owns the record.",
    "request_id": "The id of the HTTP request, as in the server's log.",
    "reasoning": "The model's reasoning, which is not a part of the answer.",
    "details": "All other fields of the provider's response, with the provider's names.",
    "endpoint": "The provider's host; `local` for the local model.",
    "context_digest": "A digest of the messages of a request at `/v1`, to find its thread.",
    "repeats_id": "The record whose question this one asks again, perhaps with another model.",
    "title": "The name that a user has given it.",
    "rating": "The judgement of a user: 1 (bad) to 5 (good).",
}
"""The meaning of each field of a record, in the order in which every output has them."""

RECORD_FIELDS = tuple(MEANINGS)

_TYPES = {item.name: item.type for item in (*fields(Question), *fields(Outcome))}
FIELD_TYPES: dict[str, Any] = {name: _TYPES.get(name, int) for name in RECORD_FIELDS}
"""The Python type of each field."""


def _fields_of(*types: type) -> tuple[str, ...]:
    """Return the fields of one of these types, also where they can be None."""

    def kinds(annotation: Any) -> set[Any]:  # noqa: ANN401 - an annotation
        parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        return {get_origin(part) or part for part in parts} - {NoneType}

    return tuple(name for name, kind in FIELD_TYPES.items() if kinds(kind) <= {*types})


TIME_FIELDS = _fields_of(datetime)
JSON_FIELDS = _fields_of(dict, list)
INT_FIELDS = _fields_of(int)
FLOAT_FIELDS = _fields_of(float)

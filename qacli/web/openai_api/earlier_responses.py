"""Find earlier responses and their items by the ids in a request of the Responses API.

Only the caller's own records count. An id of this server is made of the uid of a question; the ids
of a provider that keeps its responses are its own business, and its responses are found as well.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.domain import Status, now
from qacli.provider.translation.stored import RESPONSE_PREFIX
from qacli.provider.translation.untranslatable import no_such_response
from qacli.services.record_request import answer_items
from qacli.web.request_context import current_context

OWN_ITEM = re.compile(r"(?:msg|rs|fc)_([0-9a-f]{32})_[0-9]+")
"""The id of an item, made by `ResponsesWriter`."""

REFERENCE = "item_reference"
KEPT_FOR = timedelta(hours=1)
"""A provider that does not have a response younger than this keeps none."""


def previous_response(store: Store, body: Mapping[str, Any]) -> QuestionAnswer | None:
    """Return the answered record of a request's `previous_response_id`; None if it has none.

    Raises:
        Untranslatable: The response is another caller's; the error is that for an unknown one.
    """
    response_id = body.get("previous_response_id")
    if not isinstance(response_id, str) or not response_id:
        return None
    caller = current_context().caller
    record = store.by_response_id(response_id, caller)
    if record is None and store.is_response_of_other(response_id, caller):
        # The provider has the responses of all callers under one key.
        raise no_such_response(response_id)
    return record if record is not None and record.status is Status.ANSWERED else None


def is_own_id(record: QuestionAnswer, body: Mapping[str, Any]) -> bool:
    """Return whether the id of the previous response is one of this server."""
    return body.get("previous_response_id") == f"{RESPONSE_PREFIX}{record.uid}"


def kept_by(record: QuestionAnswer) -> str:
    """Return the endpoint that must still have a response if it keeps any; empty where none must.

    OpenAI keeps responses for 30 days, but those with `"store": false`.
    """
    is_new = record.answered_at is not None and now() - record.answered_at < KEPT_FOR
    return record.endpoint or "" if is_new and record.params.get("store") is not False else ""


def with_referenced_items(store: Store, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the items of this server in place of references to them.

    It is the same object if there are none. Other references are the provider's business.
    """
    items = body.get("input")
    uids = {uid for item in items if (uid := _uid_in(item))} if isinstance(items, list) else set()
    if not uids:
        return body
    known = {item["id"]: item for uid in sorted(uids) for item in _items_of(store, uid)}
    resolved = [known.get(item["id"], item) if _uid_in(item) else item for item in items or ()]
    return body if resolved == items else {**body, "input": resolved}


def _uid_in(item: object) -> str | None:
    """Return the uid in the id of a reference to an item of this server."""
    if not isinstance(item, dict) or item.get("type") not in (REFERENCE, None) or "role" in item:
        return None
    match = OWN_ITEM.fullmatch(str(item.get("id")))
    return match[1] if match else None


def _items_of(store: Store, uid: str) -> list[dict[str, Any]]:
    record = store.by_response_id(f"{RESPONSE_PREFIX}{uid}", current_context().caller)
    return [] if record is None else answer_items(record)

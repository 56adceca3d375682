"""Rebuild the request of a record from its thread, in which each message is stored once."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from qacli.domain import Outcome, Question, Result
from qacli.message_digests import is_from_model, leading_system

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store


def rebuild_request(store: "Store", record: "QuestionAnswer") -> dict[str, Any]:
    """Return the body of a record's request, as far as the history has its conversation.

    It has `messages`, or `input` if there are items that only the Responses API has. Files are
    named and not included.
    """
    messages = _thread_messages(store, record)
    if record.system:
        messages.insert(0, {"role": "system", "content": record.system})
    has_items = any(isinstance(item, dict) and "role" not in item for item in messages)
    left_out = {"messages", "previous_response_id"}
    params = {name: value for name, value in record.params.items() if name not in left_out}
    return {**params, "input" if has_items else "messages": messages}


def request_items(store: "Store", record: "QuestionAnswer") -> list[Any]:
    """Return the conversation of a record's request as items of Responses.

    It is without the system prompt at the beginning and without the answer.
    """
    from qacli.provider.responses_body import input_items

    return [
        item
        for message in _thread_messages(store, record)
        for item in (
            [message] if isinstance(message, dict) and "type" in message else input_items(message)
        )
    ]


def answer_items(record: "QuestionAnswer") -> list[dict[str, Any]]:
    """Return the answer of a record as items of Responses."""
    from qacli.provider.translation.stored import stored_response

    result = result_of(record)
    items: list[dict[str, Any]] = stored_response(result.question, result.outcome).response[
        "output"
    ]
    return items


def result_of(record: "QuestionAnswer") -> Result:
    """Return a record as the result of its question."""

    def values(kind: type[Question | Outcome]) -> dict[str, Any]:
        return {item.name: getattr(record, item.name) for item in fields(kind)}

    return Result(
        question=Question(**values(Question)),
        outcome=Outcome(**values(Outcome)),
        record_id=record.id,
    )


def _thread_messages(store: "Store", record: "QuestionAnswer") -> list[Any]:
    """Return the messages of a record's request, without the system prompt at the beginning."""
    messages: list[Any] = []
    previous: QuestionAnswer | None = None
    for item in store.thread(record.id or 0):
        own = item.params.get("messages")
        if own is None:
            own = [{"role": "user", "content": item.question}]
        own = own[leading_system(own) :]
        # A record has its own messages without the answer before them if that was not changed.
        if previous is not None and not (own and is_from_model(own[0])):
            if "tool_calls" in previous.details:
                messages += answer_items(previous)  # the client has sent their results only
            else:
                messages.append({"role": "assistant", "content": previous.answer})
        messages += own
        previous = item
    return messages

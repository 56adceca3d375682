"""Rebuild the request of a record from its thread, in which each message is stored once."""

from typing import TYPE_CHECKING, Any

from qacli.message_chain import is_from_model, leading_system

if TYPE_CHECKING:
    from qacli.db.models import QuestionAnswer
    from qacli.db.records import Store


def rebuild_request(store: "Store", record: "QuestionAnswer") -> dict[str, Any]:
    """Return the body of a record's request, as far as the history has its conversation.

    It has `messages`, or `input` where there are items that only the Responses API has. Files are
    named and not included.

    Args:
        store: The history.
        record: The record.
    """
    messages: list[Any] = []
    previous: QuestionAnswer | None = None
    for item in store.thread(record.id or 0):
        own = item.params.get("messages")
        if own is None:
            own = [{"role": "user", "content": item.question}]
        own = own[leading_system(own) :]
        # A record has its own messages without the answer before them where that was not changed.
        if previous is not None and not (own and is_from_model(own[0])):
            messages.append({"role": "assistant", "content": previous.answer})
        messages += own
        previous = item
    if record.system:
        messages.insert(0, {"role": "system", "content": record.system})
    has_items = any(isinstance(item, dict) and "role" not in item for item in messages)
    params = {name: value for name, value in record.params.items() if name != "messages"}
    return {**params, "input" if has_items else "messages": messages}

"""Find the thread that a request of `/v1` continues, by the messages of its conversation.

`find_thread` compares digests of all messages, see `qacli.message_digests`. For a thread of another
way to ask, such as `qa ask`, `find_record_by_texts` compares the questions and answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qacli.db.records import Store
from qacli.message_digests import earlier_requests
from qacli.validation import sanitize_text
from qacli.web.openai_api.messages import PLAIN_FIELDS, Conversation, Message, answer_of, text_of
from qacli.web.request_context import current_context


def find_thread(store: Store, messages: Sequence[Any]) -> tuple[int | None, Sequence[Any]]:
    """Return the record that a conversation continues, and the messages after that record.

    The record belongs to the same caller. Several records may have the same messages: the newest
    with the answer in the conversation is returned. A client may have changed the answer: then the
    record is returned if it is the only one.

    Args:
        store: The history.
        messages: The messages as they are recorded, without the system prompt at the beginning.

    Returns:
        The id of the record, or None. The messages begin after those of the record's request; the
        answer is one of them only if it differs from the recorded one.
    """
    requests = earlier_requests(messages)
    if not requests:
        return None, messages
    records: dict[str, list[tuple[int, str]]] = {}
    digests = [item.digest for item in requests]
    for record_id, digest, answer in store.find_contexts(digests, current_context().caller):
        records.setdefault(digest, []).append((record_id, answer.strip()))
    for item in requests:
        candidates = records.get(item.digest, [])
        text = sanitize_text(answer_of(item.answer))
        same = [record_id for record_id, answer in candidates if answer == text]
        if same:
            is_text = all(
                message.keys() <= PLAIN_FIELDS
                for message in map(_without_empty_fields, item.answer)
            )
            return same[0], messages[item.end + (len(item.answer) if is_text else 0) :]
        if len(candidates) == 1:
            return candidates[0][0], messages[item.end :]
    return None, messages


def find_record_by_texts(
    store: Store, conversation: Conversation, recorded: Sequence[Message]
) -> int | None:
    """Return the id of the record whose thread has the same questions and answers, or None.

    Args:
        store: The history.
        conversation: The conversation.
        recorded: All messages in the form in which they are recorded.
    """
    earlier = conversation.earlier
    roles = [message.get("role") for message in earlier]
    if roles != ["user", "assistant"] * (len(earlier) // 2):
        return None
    if any(message.get("tool_calls") for message in earlier):
        return None
    turns = [
        (sanitize_text(text_of(question)), sanitize_text(text_of(answer)))
        for question, answer in zip(earlier[::2], earlier[1::2], strict=True)
    ]
    for record_id in store.find_by_text(*turns[-1]):
        thread = store.thread(record_id)
        texts = [(record.question, record.answer or "") for record in thread]
        shared = min(len(texts), len(turns))
        if texts[-shared:] != turns[-shared:]:
            continue
        # A shorter thread began in the middle: the params of its first record have the start.
        before = thread[0].params.get("messages", [])
        if len(texts) >= len(turns) or (before and before == list(recorded[: len(before)])):
            return record_id
    return None


def _without_empty_fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message without its fields that have no value."""
    return {name: value for name, value in message.items() if value not in (None, [], {})}

from pathlib import Path
from typing import Any

import pytest
from journals import write_outcome, write_question

from qacli.db.records import Store
from qacli.domain import ContextPart, Outcome, Question, Result, Status, Turn
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox
from qacli.services.conversation import Conversation

FILE = {"name": "notes.md", "size": 400, "sha256": "0"}
TEXT = ContextPart("<file>" + "x" * 400 + "</file>")
IMAGE = ContextPart('<image name="cat.png" />', "data:image/png;base64," + "A" * 100_000)
OMITTED = ContextPart('<file name="notes.md" omitted />')


def over(question: str, answer: str | None, record_id: int | None = None, **fields: Any) -> Result:
    """Return the result of a finished question."""
    return Result(
        question=Question(question=question, **fields),
        outcome=Outcome(answer=answer),
        record_id=record_id,
    )


def turns_of(conversation: Conversation) -> list[Turn]:
    return list(conversation.context().turns)


def test_conversation_new_has_no_turns() -> None:
    conversation = Conversation(100)
    assert conversation.follows_id is None
    assert turns_of(conversation) == []


def test_conversation_append_adds_turns_and_follows_the_last() -> None:
    conversation = Conversation(100).append(over("1", "a", 7), []).append(over("2", "b", 8), [])
    assert turns_of(conversation) == [Turn("1", "a", []), Turn("2", "b", [])]
    assert conversation.follows_id == 8


def test_conversation_append_unanswered_changes_nothing() -> None:
    conversation = Conversation(100).append(over("1", "a", 7), [])
    assert conversation.append(over("2", None, 8), []) is conversation


def test_conversation_resume_continues_from_a_record() -> None:
    turns = [Turn("1", "a"), Turn("2", "b")]
    conversation = Conversation.resume(100, 5, turns)
    assert conversation.follows_id == 5
    assert turns_of(conversation) == turns
    assert conversation.append(over("3", "c", 6), []).follows_id == 6


def test_conversation_beyond_the_budget_leaves_out_oldest_turns() -> None:
    conversation = Conversation(30)
    for number in range(4):
        conversation = conversation.append(over(f"{number}", "x" * 40), [])
    context = conversation.context()
    assert [turn.question for turn in context.turns] == ["2", "3"]
    assert context.left_out == 2


def test_conversation_last_turn_is_sent_at_any_length() -> None:
    conversation = Conversation(1).append(over("1", "x" * 400), [])
    assert [turn.question for turn in turns_of(conversation)] == ["1"]


@pytest.mark.parametrize(
    ("budget", "parts", "sent"),
    [
        (200, [TEXT], [TEXT]),
        (50, [TEXT], [OMITTED]),
        (1100, [IMAGE], [IMAGE]),
        (900, [IMAGE], [OMITTED]),
    ],
    ids=["text", "text-without-room", "image", "image-without-room"],
)
def test_conversation_file_within_the_budget_is_sent_again(
    budget: int, parts: list[ContextPart], sent: list[ContextPart]
) -> None:
    conversation = Conversation(budget).append(over("1", "a", attachments=[FILE]), parts)
    context = conversation.context()
    assert [list(turn.parts) for turn in context.turns] == [sent]
    assert context.omitted == ([] if sent == parts else ["notes.md"])


def test_conversation_file_beyond_the_budget_drops_no_turn() -> None:
    conversation = Conversation(60).append(over("1", "a"), [])
    conversation = conversation.append(over("2", "b", attachments=[FILE]), [TEXT])
    assert [turn.question for turn in turns_of(conversation)] == ["1", "2"]


def test_conversation_turn_without_a_record_is_followed_by_uid() -> None:
    conversation = Conversation(100).append(over("1", "a", 7), [])
    assert conversation.follows_uid is None
    undelivered = over("2", "b")
    conversation = conversation.append(undelivered, [])
    assert (conversation.follows_id, conversation.follows_uid) == (None, undelivered.question.uid)


def test_recover_outbox_links_the_turns_of_a_conversation(store: Store, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    asks = [Question(question=f"{number}") for number in range(5)]
    for ask, follows_uid in zip(asks, [None, *(ask.uid for ask in asks)], strict=False):
        journal = outbox.open()
        write_question(journal, ask, follows_uid="unknown" if ask is asks[-1] else follows_uid)
        write_outcome(journal, ask.uid, Outcome(status=Status.ANSWERED, answer="x"))
        journal.close()
    assert recover_outbox(outbox, store) == 5
    kept = store.page(limit=9)
    assert [record.question for record in kept] == ["0", "1", "2", "3", "4"]
    assert [record.follows_id for record in kept] == [None, *(each.id for each in kept[:3]), None]

"""A conversation in memory: the turns that are sent with the next question.

The turns are not read back from the history, so a conversation goes on where nothing is saved or
the database is down, and a file is sent again as long as there is room for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qacli.attachments import placeholder_parts
from qacli.cost import turn_tokens
from qacli.domain import ContextPart, Result, Turn


@dataclass(frozen=True, slots=True)
class _Entry:
    """A turn with its files, and the description of the files that its record has."""

    turn: Turn
    record_id: int | None
    uid: str | None = None
    attachments: Sequence[dict[str, Any]] = ()

    @property
    def without_files(self) -> Turn:
        return replace(self.turn, parts=placeholder_parts(self.attachments))


@dataclass(frozen=True, slots=True)
class Context:
    """The turns that are sent with a question.

    Attributes:
        turns: The newest turns, the oldest of them first.
        left_out: The number of older ones that had no room.
        omitted: The names of files in the turns that had no room.
    """

    turns: list[Turn]
    left_out: int
    omitted: list[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of a thread, in memory.

    Attributes:
        budget: The number of tokens, estimated, that are sent with a question.
    """

    budget: int
    _entries: tuple[_Entry, ...] = ()

    @classmethod
    def resume(cls, budget: int, follows_id: int, turns: Sequence[Turn]) -> "Conversation":
        """Build a conversation that goes on from a record.

        Args:
            budget: See `Conversation`.
            follows_id: The record.
            turns: That record and the ones before it, see `qacli.services.context.load_context`.
        """
        entries = [_Entry(turn, None) for turn in turns[:-1]]
        return cls(budget, (*entries, _Entry(turns[-1], follows_id)))

    @property
    def follows_id(self) -> int | None:
        """The record that the next question follows up."""
        return self._entries[-1].record_id if self._entries else None

    @property
    def follows_uid(self) -> str | None:
        """The uid of the question that the next one follows up, if it has no record yet."""
        return self._entries[-1].uid if self._entries and self.follows_id is None else None

    def context(self) -> Context:
        """Return the newest turns, and as many of their files as the budget allows."""
        turns: list[Turn] = []
        omitted: list[str] = []
        remaining = self.budget
        for entry in reversed(self._entries):
            turn = entry.turn
            if entry.attachments and turn_tokens(turn) > remaining:
                turn = entry.without_files
                omitted += [str(file["name"]) for file in entry.attachments]
            remaining -= turn_tokens(turn)
            # The last turn is always sent: without it there is no conversation.
            if remaining < 0 and turns:
                break
            turns.append(turn)
        return Context(turns[::-1], len(self._entries) - len(turns), omitted)

    def append(self, result: Result, parts: Sequence[ContextPart]) -> "Conversation":
        """Return the conversation with one more question and its attachments.

        A question without any answer leaves the conversation as it is.
        """
        if result.outcome.answer is None:
            return self
        question = result.question
        turn = Turn(question.question, result.outcome.answer, parts)
        entry = _Entry(turn, result.record_id, question.uid, question.attachments)
        return replace(self, _entries=(*self._entries, entry))

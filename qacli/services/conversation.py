"""A thread as it goes on: what goes along with the next question, and which record it follows.

The turns are kept as they were said, not read back from the history: so a conversation goes on
where nothing is saved or the database is away, and a file goes along again while there is room.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qacli.attachments import placeholder_parts
from qacli.cost import turn_tokens
from qacli.domain import ContextPart, Turn

if TYPE_CHECKING:
    from qacli.services.ask import AskSession


@dataclass(frozen=True, slots=True)
class _Entry:
    """A turn, as whole as it was, and what its record keeps of its files."""

    turn: Turn
    record_id: int | None
    uid: str | None = None
    attachments: Sequence[dict[str, Any]] = ()

    @property
    def without_files(self) -> Turn:
        return replace(self.turn, parts=placeholder_parts(self.attachments))


@dataclass(frozen=True, slots=True)
class Context:
    """What goes along with a question.

    Attributes:
        turns: The newest turns, the oldest of them first.
        left_out: How many older ones had no room.
        omitted: The names of files in the turns that had no room.
    """

    turns: list[Turn]
    left_out: int
    omitted: list[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of a thread, in memory.

    Attributes:
        budget: About how many tokens of them go along with a question.
    """

    budget: int
    _said: tuple[_Entry, ...] = ()

    @classmethod
    def resume(cls, budget: int, follows_id: int, turns: Sequence[Turn]) -> "Conversation":
        """From a record on.

        Args:
            budget: As above.
            follows_id: The record.
            turns: That record and what it follows up, as `asking.load_context_or_warn` finds them.
        """
        said = [_Entry(turn, None) for turn in turns[:-1]]
        return cls(budget, (*said, _Entry(turns[-1], follows_id)))

    @property
    def follows_id(self) -> int | None:
        """The record that the next question follows up."""
        return self._said[-1].record_id if self._said else None

    @property
    def follows_uid(self) -> str | None:
        """The question that the next one follows up, where that has no record yet."""
        return self._said[-1].uid if self._said and self.follows_id is None else None

    def context(self) -> Context:
        """What there is room for: the newest turns, and of their files as many as fit."""
        turns: list[Turn] = []
        omitted: list[str] = []
        left = self.budget
        for said in reversed(self._said):
            turn = said.turn
            if said.attachments and turn_tokens(turn) > left:
                turn = said.without_files
                omitted += [str(file["name"]) for file in said.attachments]
            left -= turn_tokens(turn)
            # The last one goes along whatever its length: without it there is no conversation.
            if left < 0 and turns:
                break
            turns.append(turn)
        return Context(turns[::-1], len(self._said) - len(turns), omitted)

    def append(self, exchange: "AskSession", parts: Sequence[ContextPart]) -> "Conversation":
        """With a question that is over, and what was put before it.

        One that nothing came of leaves the conversation as it is.
        """
        if exchange.outcome.answer is None:
            return self
        turn = Turn(exchange.ask.question, exchange.outcome.answer, parts)
        said = _Entry(turn, exchange.record_id, exchange.ask.uid, exchange.ask.attachments)
        return replace(self, _said=(*self._said, said))

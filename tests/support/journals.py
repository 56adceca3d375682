"""Write entries to a journal of the outbox, as a process of qa does."""

from qacli.domain import Delta, Outcome, Question
from qacli.recording.journal_format import outcome_entry, question_entry, text_entry
from qacli.recording.outbox import Journal


def write_question(
    journal: Journal, question: Question, *, follows_uid: str | None = None, sync: bool = True
) -> None:
    """Write a question."""
    journal.append(question_entry(question, follows_uid), sync=sync)


def write_text(journal: Journal, uid: str, text: str) -> None:
    """Write a piece of the answer."""
    journal.append(text_entry(uid, Delta(text)))


def write_outcome(journal: Journal, uid: str, outcome: Outcome, *, sync: bool = True) -> None:
    """Write the outcome."""
    journal.append(outcome_entry(uid, outcome), sync=sync)

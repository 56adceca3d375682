"""Show the saved answer to the same question, for `qa ask --reuse`."""

from collections.abc import Callable
from datetime import datetime

from qacli.cli.answer_display import AnswerDisplay, warn_about_end
from qacli.cli.answer_use import AnswerUse, use_answer
from qacli.config.settings import Settings
from qacli.dates import format_age
from qacli.domain import Question, now


def show_cached_answer(  # noqa: PLR0913 - the question, and the use of its answer
    question: Question,
    display: AnswerDisplay,
    settings: Settings,
    use: AnswerUse,
    *,
    since: datetime | None,
    check: Callable[[str], None] | None,
) -> bool:
    """Show the saved answer to the same question; return False if no answer is saved."""
    from qacli.cli.store import open_store
    from qacli.services.cache import find_cached_answer

    console = display.console
    record = find_cached_answer(open_store(settings, console), question, since=since, check=check)
    if record is None:
        return False
    fields = record.to_dict()
    if display.as_json and not display.hidden:
        console.print_json(display.document(fields, reused=True))
    elif not display.as_json:
        with display.writer() as text:
            if display.show_reasoning and record.reasoning:
                text.add_reasoning(record.reasoning)
            text.add(record.answer or "")
        display.print_sources(record.details)
    warn_about_end(record, console)
    console.info(
        f"Reused: the answer of record {record.id}, asked {format_age(record.created_at, now())}."
    )
    use_answer(use, record.answer, display, fields, record.id, reused=True)
    return True

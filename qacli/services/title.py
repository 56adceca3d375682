"""Let a model name a thread after its first answer."""

import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from qacli.domain import ChatRequest, Result, Status, create_question
from qacli.errors import BrokenAnswer, ProviderTimeout
from qacli.provider.response import ChatResponse
from qacli.validation import parse_title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qacli.services.ask import AskService

TITLE_SECONDS = 30.0
"""Maximum seconds for a title."""

HEARTBEAT_SECONDS = 0.2
MAX_SENT_CHARACTERS = 2000
"""Characters of the question, and of the answer, that are sent for a title."""

MAX_GENERATED_TITLE_CHARACTERS = 80
PROMPT = (
    "Write a title of at most six words for the conversation below, in its language. "
    "Answer with the title alone.\n\n"
    "<question>\n{question}\n</question>\n\n<answer>\n{answer}\n</answer>"
)
LABEL = re.compile(r"([*_]*)(title|titel|titre|título)(\1\s*:|\s*:\1)\s*", re.IGNORECASE)
QUOTES = ("“”", "„“”", "«»", "»«", "‘’", "‹›")  # noqa: RUF001 - the quotes themselves are meant
CLOSING_MARKS = {mark: mark for mark in "*_`\"'"} | {quotes[0]: quotes[1:] for quotes in QUOTES}
"""The marks that can close a text, by the mark that opens it."""


def is_first_answer(result: Result) -> bool:
    """Return whether a result is the recorded first answer of a thread."""
    return (
        result.outcome.status is Status.ANSWERED
        and result.record_id is not None
        and result.question.follows_id is None
    )


def title_thread(
    service: "AskService", result: Result, *, model: str, params: "Mapping[str, Any]", stream: bool
) -> str | None:
    """Let a model name the thread of a first answer; return the title.

    The tokens and the cost of the title are added to those of the record. If the record already has
    a title, it is kept.

    Args:
        service: Asks the model; the question for the title is not recorded.
        result: The first answer of the thread, see `is_first_answer`.
        model: The model that writes the title.
        params: Its options.
        stream: Ask for the title as a stream.

    Raises:
        ProviderError: There is no title.
        DatabaseError: The title cannot be stored.
        KeyboardInterrupt: The user stopped it.
    """
    prompt = PROMPT.format(
        question=result.question.question[:MAX_SENT_CHARACTERS],
        answer=(result.outcome.answer or "")[:MAX_SENT_CHARACTERS],
    )
    question = create_question(prompt, model=model, system=None, params=dict(params))
    response = ChatResponse()
    deadline = monotonic() + TITLE_SECONDS
    for _event in service.provider(question).stream(
        ChatRequest(question=question, stream=stream),
        response,
        on_arrival=lambda _event: None,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        deltas=True,
    ):
        # A heartbeat is an event too, so this is checked every 0.2 s.
        if monotonic() > deadline:
            raise ProviderTimeout(
                f"The title did not come within {TITLE_SECONDS:g} s.",
                "Name a faster model: QA_TITLE_MODEL",
            )
    title = parse_title(clean_title(response.text))
    service.store().add_title(result.record_id or 0, title, response.outcome(service.prices))
    if title is None:
        raise BrokenAnswer(
            "The model answered with an empty title.", "Name the thread: qa title ID"
        )
    return title


def clean_title(text: str) -> str:
    """Return the first line of a model's answer, without quotes, markup and "Title:"."""
    lines = (_without_label(line) for line in text.splitlines())
    title = next(filter(None, lines), "")
    if len(title) > MAX_GENERATED_TITLE_CHARACTERS:
        title = f"{title[: MAX_GENERATED_TITLE_CHARACTERS - 1]}…"
    return title


def _without_label(line: str) -> str:
    line = _without_marks(line.lstrip("# \t"))
    label = LABEL.match(line)
    return _without_marks(line[label.end() :]) if label else line


def _without_marks(line: str) -> str:
    """Remove the marks that enclose a whole line and are not inside it."""
    line = line.strip()
    while line and line[-1] in CLOSING_MARKS.get(line[0], ""):
        width = len(line) - len(line.lstrip(line[0]))
        text = line[width:-width]
        if line[0] in text or line[-1] in text or not line.endswith(line[-1] * width):
            break
        line = text.strip()
    return line

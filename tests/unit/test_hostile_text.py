"""Functions that read text of models, providers and clients take linear time for any text."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from qacli import excerpt, redaction, sanitize, validation
from qacli.batch import limiter
from qacli.cli import formatters, markdown
from qacli.config.settings import Settings
from qacli.dates import parse_when
from qacli.db.search import parse_terms
from qacli.errors import QaError
from qacli.json_schema import extract_json, schema_from_shorthand
from qacli.prompt_templates import Pattern
from qacli.provider import debug, error_mapping
from qacli.recording.journal_reader import parse_journal
from qacli.web.api.schemas import AskHeaders, ListQuery
from qacli.web.ui import forms, history_list
from qacli.web.ui.markdown import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHARACTERS = int(os.environ.get("QA_TEST_CHARACTERS", "200000"))
CPU_SECONDS = 3 + CHARACTERS / 200_000
"""For one text: linear functions take a tenth, quadratic ones ten times as much or more."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)

OPENERS = ("", '"', "```", "```json\n", '{"uid": "a", "text": "', "{", "a b ", "password=", "1")
PUMPS = (
    *("a", " ", "\n", "\t", " \n", "a ", "a\n", "1", "-", ".", ",", "\\", "\0", "\r", "=", "=\n"),
    *('"', "'", '"a ', '\\"', "`", "```\n", "~", "[", "{", "}", "{a", "{{", "<", "<title>", "&#"),
    *("&a", "&password=", "sk-", "data:", "data:;base64,", "data:a;base64,a", ":", "a:", "//", "@"),
    *(
        "\u200d",
        "\u200da",
        "\u0301",
        "\ufe0f",
        "\U0001f3f4\U000e0067",
        "\u00df",
        "\u0130",
        "\u4e00",
    ),
)

READERS: dict[str, Callable[[str], object]] = {
    "answer-as-json": extract_json,
    "answer-as-html": render,
    "answer-is-complete": lambda text: markdown.is_complete(text, text[:-1]),
    "answer-fence": markdown.OPENING_FENCE.fullmatch,
    "answer-lines": markdown.HTML_OR_DEFINITION_LINE.search,
    "answer-in-a-table": formatters.one_line,
    "sanitize": sanitize.sanitize,
    "sanitize-text": validation.sanitize_text,
    "tag": validation.validate_tag,
    "search": parse_terms,
    "search-excerpt": lambda text: excerpt.find_first(text, [text[:500]] * 100),
    "search-marks": lambda text: history_list.mark_words(
        history_list.shorten(text), [text[: n + 1] for n in range(100)]
    ),
    "journal": lambda text: parse_journal(text.encode("utf-8", "replace"), NOW),
    "template": Pattern.parse,
    "schema": schema_from_shorthand,
    "redacted-key": Settings().redact,
    "redacted-url": redaction.without_password,
    "debug-image": lambda text: debug.IMAGE.sub("", text),
    "retry-after": lambda text: error_mapping.retry_after({"retry-after": text}),
    "rate-limit": limiter._parse_number,  # noqa: SLF001 - the only reader of these headers
    "date": lambda text: parse_when(text, NOW),
    "query": lambda text: ListQuery.model_validate({"since": text, "tag": text, "q": text}),
    "idempotency-key": lambda text: AskHeaders.model_validate({"Idempotency-Key": text}),
    "form-tags": forms.parse_tags,
    "form-address": lambda text: forms.SignInForm(next=text, token=text),
}


@contextmanager
def cpu_limit(seconds: float, text: str) -> Iterator[None]:
    """Fail after so much processor time; `re` checks for signals while it matches."""

    def stop(*_: object) -> None:
        pytest.fail(f"took more than {seconds} s for {text[:40]!r}...")

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


@pytest.mark.parametrize("name", READERS)
def test_reader_long_hostile_text_takes_linear_time(name: str) -> None:
    for number, pump in enumerate(PUMPS):
        text = OPENERS[number % len(OPENERS)] + pump * (CHARACTERS // len(pump))
        with cpu_limit(CPU_SECONDS, text), suppress(QaError, ValueError, RecursionError):
            READERS[name](text)

"""The log on a terminal: text of a client starts no line and moves no cursor."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, NoReturn

from qacli.web.access_log import TextFormatter, log_to_stderr

if TYPE_CHECKING:
    import pytest


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def test_text_formatter_newlines_are_one_line_traceback_is_indented() -> None:
    evil = "a\n12:00:00 INFO    GET /forged\x1b[2J\u202e"
    try:
        fail(evil)
    except ValueError:
        record = logging.LogRecord("qa.web", 30, "", 0, "It is %s.", (evil,), sys.exc_info())
    first, *rest = TextFormatter(str).format(record).split("\n")
    assert first.endswith(r"It is a\n12:00:00 INFO    GET /forged\x1b[2J\u202e.")
    assert rest
    assert all(line.startswith("  ") for line in rest)


def test_log_to_stderr_on_a_terminal_is_sanitized(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Tty()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", file)
    try:
        log_to_stderr(str)
        try:
            fail("\x1b]0;t\x07\x9b\u202e")
        except ValueError:
            logging.getLogger("qa.web").exception("It is %s.", "\x1b[2J")
    finally:
        root.handlers[:], root.level = before[0], before[1]
    assert "ValueError: \ufffd]0;t\ufffd\ufffd\ufffd" in file.getvalue()
    assert "\x1b" not in file.getvalue()

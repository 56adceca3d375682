"""The status line on stderr until an answer begins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

from qacli.cli.status_line import ERASE
from qacli.cli.text_width import cell_width

from .conftest import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FRAME = re.compile(r"\r\x1b\[2K\x1b\[2m(.*?)\x1b\[0m")


@pytest.fixture
def slow(provider: FakeProvider) -> FakeProvider:
    """A provider that starts to answer after the status line is shown."""
    provider.default = Reply(text="Yes.", latency=0.6)
    return provider


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    "options", [[], ["--raw"], ["--json"], ["--no-stream"], ["-o", "file"]], ids=" ".join
)
def test_status_line_names_the_model_moves_and_is_gone_at_the_end(
    invoke: Invoke, console: Callable[..., Any], options: list[str]
) -> None:
    seen = console(invoke, "ask", *options, "Who?")
    assert seen.code == 0
    frames = FRAME.findall(seen.err)
    assert re.fullmatch(r". test-model \d+ s", frames[0])
    assert len({frame[0] for frame in frames}) > 1
    assert seen.err.count(ERASE) > len(frames)
    assert "test-model" not in Screen(seen.rows).show(seen.err)
    assert "test-model" not in seen.out or "--json" in options


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("columns", [100, 40], ids=["columns", "list"])
def test_status_line_names_all_models_until_an_answer_begins(
    invoke: Invoke, console: Callable[..., Any], columns: int
) -> None:
    seen = console(invoke, "ask", "-m", "model-a", "-m", "model-b", "Who?", columns=columns)
    assert seen.code == 0
    assert re.fullmatch(r". model-a, model-b \d+ s", FRAME.findall(seen.err)[0])
    assert "model-a, model-b" not in Screen(seen.rows).show(seen.err)
    assert seen.screen.count("Yes.") == 2


@pytest.mark.usefixtures("slow")
def test_status_line_on_the_linux_console_is_ascii(
    invoke: Invoke, console: Callable[..., Any]
) -> None:
    frames = FRAME.findall(console(invoke, "ask", "Who?", TERM="linux").err)
    assert frames
    assert all(frame.isascii() for frame in frames)


@pytest.mark.parametrize("columns", [80, 40, 12])
def test_status_line_fits_the_screen_while_a_model_thinks(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any], columns: int
) -> None:
    provider.default = Reply(reasoning="漢字 " * 60 + "the end", text="Yes.", delay=0.005)
    seen = console(invoke, "ask", "--raw", "Who?", columns=columns)
    frames = FRAME.findall(seen.err)
    assert frames
    assert all(cell_width(frame) < columns for frame in frames)
    assert seen.screen.strip() == "Yes."


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("options", "env"),
    [(["--quiet"], {}), ([], {"TERM": "dumb"}), ([], {"TERM": ""})],
    ids=["quiet", "dumb", "no-term"],
)
def test_status_line_is_not_shown_in_other_modes(
    invoke: Invoke, console: Callable[..., Any], options: list[str], env: dict[str, str]
) -> None:
    assert "\x1b[2K" not in console(invoke, "ask", *options, "Who?", **env).err


@pytest.mark.usefixtures("slow")
def test_status_line_on_a_pipe_is_not_shown(invoke: Invoke) -> None:
    done = invoke("ask", "Who?", TERM="xterm")
    assert (done.out, done.err) == ("Yes.\n", "")


def test_status_line_leaves_notes_whole(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.default = Reply(status=503, retry_after=0.5, times=1, latency=0.4)
    seen = console(invoke, "ask", "Who?", columns=200, QA_RETRIES="1")
    assert seen.code == 0
    lines = Screen(seen.rows).show(seen.err).splitlines()
    assert next(line for line in lines if "Asking again in" in line).startswith("The provider")
    assert lines[-1].startswith("Answered, kept as record 1.")


def test_status_line_after_an_error_is_gone(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.default = Reply(status=400, message="No.", latency=0.5)
    seen = console(invoke, "ask", "Who?")
    assert seen.code == 5
    assert FRAME.search(seen.err)
    assert "test-model 0 s" not in Screen(seen.rows).show(seen.err)

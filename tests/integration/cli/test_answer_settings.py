"""The settings of temperature, token limit, streaming and raw text, and the note on waiting."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke, Program

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize("command", [["ask", "Who?"], ["chat"]], ids=["ask", "chat"])
def test_settings_of_the_request_give_way_to_options(
    invoke: Invoke, provider: FakeProvider, command: list[str]
) -> None:
    env = {"QA_TEMPERATURE": "0.5", "QA_MAX_TOKENS": "50", "QA_STREAM": "false"}
    input_text = "Who?\n" if command == ["chat"] else ""
    assert invoke(*command, input=input_text, **env).code == 0
    body = provider.requests[-1].body
    assert body["temperature"] == 0.5
    assert body.get("max_tokens", body.get("max_completion_tokens")) == 50
    assert not body.get("stream")
    assert invoke(*command, "--temperature", "0", input=input_text, **env).code == 0
    assert provider.requests[-1].body["temperature"] == 0


def test_setting_of_a_model_has_precedence_over_the_general_one(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "config.toml").write_text('temperature = 1\n[models."test-model"]\ntemperature = 0.2\n')
    assert invoke("ask", "Who?").code == 0
    assert provider.requests[-1].body["temperature"] == 0.2
    assert invoke("ask", "-m", "other", "Who?").code == 0
    assert provider.requests[-1].body["temperature"] == 1


@pytest.mark.parametrize("value", ["-1", "2.1", "nan", "warm"])
def test_setting_of_an_invalid_temperature_exits_3(invoke: Invoke, value: str) -> None:
    done = invoke("ask", "Who?", QA_TEMPERATURE=value)
    assert done.code == 3
    assert "QA_TEMPERATURE" in done.err


def test_setting_raw_renders_no_markdown(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.default = Reply(text="It is **bold**.")
    assert console(invoke, "ask", "Who?", QA_RAW="true").screen.strip() == "It is **bold**."


def test_chat_with_a_template_fills_each_question(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "templates").mkdir()
    template = home / "templates" / "translate.toml"
    template.write_text(
        'system = "Into {language}."\nquestion = "Translate: {input}"\nmodel = "big"\n'
        "temperature = 0.2\n"
    )
    options = ("-t", "translate", "-p", "language=French")
    assert invoke("chat", *options, input="One {x}\nTwo\n/retry\n").code == 0
    bodies = [request.body for request in provider.requests]
    assert [body["messages"][0]["content"] for body in bodies] == ["Into French."] * 3
    assert [body["messages"][-1]["content"] for body in bodies] == [
        *("Translate: One {x}", "Translate: Two", "Translate: Two")
    ]
    assert {(body["model"], body["temperature"]) for body in bodies} == {("big", 0.2)}
    assert invoke("chat", "-t", "translate", input="One\n").code == 2
    template.write_text('schema = "name"\n')
    done = invoke("chat", "-t", "translate", input="One\n")
    assert done.code == 2
    assert "qa ask -t translate" in done.err


def test_ask_with_an_open_standard_input_prints_that_it_waits(qa: Program) -> None:
    process = qa.start("ask", "-v", "--no-save", "Who?", stdin=subprocess.PIPE)
    assert b"Waiting for standard input" in process.stderr.readline()
    out, _ = process.communicate(b"am I?")
    assert (process.returncode, out) == (0, b"Answer to: Who?\n\nam I?\n")

"""`qa` without arguments on a terminal: it offers endpoints to choose from, and asks a question."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from person import CTRL_C, ENTER, Person

from qacli.cli.first_run import LocalServer, find_local_servers, usual_addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke, Program
    from fake_provider import FakeProvider

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

NO_PROVIDER = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "QA_MODEL": ""}


@on_sqlite
def test_qa_alone_sets_up_the_local_model_and_answers(
    qa: Program, at_terminal: Callable[..., Person]
) -> None:
    user = at_terminal(GROQ_API_KEY="gsk-x", **NO_PROVIDER)
    user.see("1  groq, with the key in GROQ_API_KEY")
    user.see("  a provider with an API key")
    number = user.see("  a small model on this machine").split()[-1]
    user.see("Number [1]:")
    user.type(f"9{ENTER}")
    user.see("Type one of 1")
    user.type(f"{number}{ENTER}")
    user.see("Your question")
    user.type(ENTER)
    user.see("Paris")
    assert user.end() == 0
    record = json.loads(qa("show", "last", "--json").out)
    assert (record["question"], record["status"]) == ("What is the capital of France?", "answered")


@on_sqlite
def test_qa_alone_stopped_by_ctrl_c_exits_130_and_writes_nothing(
    qa: Program, at_terminal: Callable[..., Person]
) -> None:
    user = at_terminal(**NO_PROVIDER)
    user.see("Number [1]:")
    user.type(CTRL_C)
    assert user.end() == 130
    user.see("\n")  # the prompt of the shell begins on a new line
    assert json.loads(qa("list", "--json", **NO_PROVIDER).out or "[]") == []


@on_sqlite
@pytest.mark.parametrize("terminal", [True, False])
def test_qa_alone_with_a_key_prints_the_help(invoke: Invoke, *, terminal: bool) -> None:
    done = invoke(terminal=terminal)
    assert "qa ask" in done.out + done.err
    assert "Number" not in done.out


def test_find_local_servers_lists_only_those_that_answer_with_models(
    provider: FakeProvider,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    urls = {"away": f"http://127.0.0.1:{port}/v1", "here": provider.base_url}
    provider.api_key, key = None, provider.api_key
    try:
        (server,) = find_local_servers(urls)
        # A server without a list of models does not have this API.
        assert find_local_servers({"other": f"{provider.base_url}/nothing"}) == []
    finally:
        provider.api_key = key
    assert isinstance(server, LocalServer)
    assert (server.name, server.models[0]) == ("here", "fake-large")


def test_usual_addresses_are_the_local_servers_of_config_use() -> None:
    assert set(usual_addresses()) == {"ollama", "lmstudio", "vllm", "llama.cpp"}


@pytest.mark.skipif(sys.platform != "linux", reason="the library belongs to Linux")
@on_sqlite
@pytest.mark.parametrize("is_installed", [True, False])
def test_local_install_without_libgomp_names_it(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, *, is_installed: bool
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    if not is_installed:
        monkeypatch.setitem(sys.modules, "xllamacpp", None)
    done = invoke("local", "install")
    assert (done.code, done.out) == (3, "")
    assert "libgomp.so.1" in done.err
    assert "apt-get install libgomp1" in done.err

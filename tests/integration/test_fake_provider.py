"""The behaviour of the fake provider on which the other tests depend."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connect = Callable[..., "Client"]

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that makes a client, which is closed after the test."""
    with ExitStack() as clients:
        yield lambda *args, **more: clients.enter_context(closing(Client(*args, **more)))


class Client:
    """One kept-alive connection to a provider."""

    def __init__(self, base_url: str, key: str = "sk-test", timeout: float = 5) -> None:
        netloc = base_url.removeprefix("http://").removesuffix("/v1")
        self.http = http.client.HTTPConnection(netloc, timeout=timeout)
        self.key = key

    def close(self) -> None:
        self.http.close()

    def ask(self, question: str, **more: object) -> tuple[int, dict[str, str], str]:
        body = {"model": "m", "messages": [{"role": "user", "content": question}], **more}
        headers = {"Authorization": f"Bearer {self.key}"}
        self.http.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = self.http.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read().decode()

    def stream(self, question: str) -> list[Any]:
        """Return the data of all events; JSON is parsed."""
        status, headers, text = self.ask(
            question, stream=True, stream_options={"include_usage": True}
        )
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        return [event if event == "[DONE]" else json.loads(event) for event in events]


def test_fake_provider_answers_both_forms_over_one_connection(
    provider: FakeProvider, connect: Connect
) -> None:
    client = connect(provider.base_url)
    status, _, text = client.ask("How  far is\nit? ")
    whole = json.loads(text)
    assert status == 200
    assert whole["choices"][0]["message"]["content"] == "Answer to: How  far is\nit? "
    assert whole["model"] == "m-2026-01-01"
    first, *deltas, last, usage, done = client.stream("How  far is\nit? ")
    assert first["choices"][0]["delta"]["role"] == "assistant"
    pieces = [event["choices"][0]["delta"]["content"] for event in deltas]
    assert len(pieces) > 5
    assert "".join(pieces) == "Answer to: How  far is\nit? "
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert done == "[DONE]"
    assert provider.asked("How  far is\nit? ") == 2
    assert provider.stats == {"ok": 2}
    assert provider.connections == 1
    assert provider.requests[1].body["stream"] is True
    assert provider.requests[1].headers["authorization"] == "Bearer sk-test"


def test_fake_provider_uses_script_default_and_reset(
    provider: FakeProvider, connect: Connect
) -> None:
    client = connect(provider.base_url)
    provider.script("status=500", Reply(text="scripted"), lambda request: f"text={request.times}")
    provider.default = "text=default"
    assert client.ask("q")[0] == 500
    answers = [json.loads(client.ask("q")[2]) for _ in range(3)]
    assert [each["choices"][0]["message"]["content"] for each in answers] == [
        "scripted",
        "3",
        "default",
    ]
    provider.reset()
    assert (provider.requests, provider.stats, provider.asked("q")) == ([], {}, 0)
    assert "Answer to: q" in client.ask("q")[2]

    def broken(request: Request) -> Reply:
        raise ZeroDivisionError(request.question)

    provider.script(broken)
    assert client.ask("q")[0] == 400
    with pytest.raises(ValueError, match="does not understand"):
        provider.script("statsu=500")


@pytest.mark.parametrize(
    ("directive", "status", "expected"),
    [
        ("status=429 retry_after=1 x-ratelimit-remaining-requests=0", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("bad_key", 401, "Incorrect API key provided: sk-proj-**************wxyz."),
        ("leak_key", 401, "Incorrect API key provided: sk-proj-0123456789abcdwxyz."),
        ("html_502", 502, "<!DOCTYPE html>"),
        ("html", 200, "<!DOCTYPE html>"),
        ("empty", 200, '"content": ""'),
        ("no_choices", 200, '"choices": []'),
        ("nasty", 200, r"\u0000 surrogate \ud800"),
        ("refusal='I will not.'", 200, '"refusal": "I will not."'),
        ("error", 200, '{"error": '),
        ("times=1 status=500", 500, "server_error"),
        ("unknown_word", 400, "does not understand 'unknown_word'"),
    ],
)
def test_fake_provider_directive_in_a_question_makes_the_fault(
    provider: FakeProvider, directive: str, status: int, expected: str, connect: Connect
) -> None:
    client = connect(provider.base_url, key="sk-proj-0123456789abcdwxyz")
    got, headers, text = client.ask(f"What? [[{directive}]]")
    assert got == status
    assert expected in text
    if "retry_after" in directive:
        assert headers["retry-after"] == "1"
        assert headers["x-ratelimit-remaining-requests"] == "0"
    if "times" in directive:
        assert client.ask(f"What? [[{directive}]]")[0] == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("cut", http.client.IncompleteRead),
        ("reset", ConnectionResetError),
        ("drop", http.client.RemoteDisconnected),
        ("hang", TimeoutError),
        ("stall=1", TimeoutError),
        ("dribble=0.3", TimeoutError),
    ],
)
def test_fake_provider_broken_connection_raises_in_the_client(
    provider: FakeProvider,
    directive: str,
    error: type[Exception],
    connect: Connect,
    *,
    stream: bool,
) -> None:
    client = connect(provider.base_url, timeout=0.2)
    with pytest.raises(error):
        client.ask(f"[[{directive}]]", stream=stream)
    client.close()
    again = connect(provider.base_url)
    assert again.ask("still there?")[0] == 200
    name = {"stall=1": "stall", "dribble=0.3": "client_gone"}.get(directive, directive)
    assert provider.stats == {name: 1, "ok": 1}


def test_fake_provider_stream_can_end_early(provider: FakeProvider, connect: Connect) -> None:
    client = connect(provider.base_url)
    role, one, two = client.stream("a b c [[end=2]]")
    assert [each["choices"][0]["finish_reason"] for each in (role, one, two)] == [None] * 3
    *_, last = client.stream("a b c [[error=2]]")
    assert last["error"]["type"] == "server_error"
    assert client.stream("[[nothing]]") == []
    assert client.ask("[[json]]", stream=True)[1]["content-type"] == "application/json"
    assert client.ask("[[close]]")[0] == 200
    with pytest.raises(ConnectionError):
        client.ask("on the stale connection")
    client.close()
    assert client.ask("on a new one")[0] == 200
    assert provider.connections == 2


def test_fake_provider_checks_keys_and_limits(connect: Connect) -> None:
    with FakeProvider(api_key="right", rpm=60, burst=2) as provider:
        assert connect(provider.base_url, key="wrong").ask("q")[0] == 401
        client = connect(provider.base_url, key="right")
        assert [client.ask("q")[0] for _ in range(3)] == [200, 200, 429]
        _, headers, _ = client.ask("q")
        assert headers["retry-after"] == "1"
        assert headers["x-ratelimit-limit-requests"] == "60"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert provider.stats == {"401": 1, "ok": 2, "rate_limited": 2}
    with (
        FakeProvider(max_concurrency=2, default="latency=0.3") as provider,
        ThreadPoolExecutor(3) as pool,
    ):
        asked = pool.map(lambda _: connect(provider.base_url).ask("q")[0], range(3))
        assert sorted(asked) == [200, 200, 429]
        assert provider.max_concurrent == 3


def test_fake_provider_random_faults_are_independent_of_order(connect: Connect) -> None:
    faults = ("status=500", "status=503")
    outcomes = []
    for order in (range(50), reversed(range(50))):
        with FakeProvider(fail_rate=0.3, seed=1, fail_with=faults) as provider:
            client = connect(provider.base_url)
            outcomes.append({number: client.ask(f"q{number}")[0] for number in order})
    assert outcomes[0] == outcomes[1]
    assert set(outcomes[0].values()) == {200, 500, 503}


def test_fake_provider_restarts_on_the_same_port(provider: FakeProvider, connect: Connect) -> None:
    provider.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(provider.base_url).ask("q")
    provider.start()
    assert connect(provider.base_url).ask("q")[0] == 200


def test_fake_provider_as_a_process_answers_and_logs(tmp_path: Path, connect: Connect) -> None:
    log = tmp_path / "log"
    command = [
        sys.executable,
        str(SUPPORT / "fake_provider"),
        "--log",
        str(log),
        "--latency",
        "0.1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert connect(url).ask("é\n")[0] == 200
        with pytest.raises(ConnectionResetError):
            connect(url).ask("[[reset]]")
        assert [json.loads(line) for line in log.read_text().splitlines()] == ["é\n", "[[reset]]"]
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.read())["stats"] == {"ok": 1, "reset": 1}
    assert process.returncode == 0

"""`--reuse` and `--max-cost`: stored answers are not asked again, expensive ones not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY, Invoke
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Records

REX = '{"name": "Rex"}'
sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_reuse_same_question_asks_once(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    asked = ("ask", "--reuse", "--temperature", "1.0", "--system", "Be brief.", "Who am I?")
    first = invoke(*asked, "-v")
    again = invoke(*asked)
    told = invoke(*asked, "-v", "--tag", "x", "--temperature", "1")
    assert [done.out for done in (first, again, told)] == ["Answer to: Who am I?\n"] * 3
    assert "kept as record 1" in first.err
    assert again.err == ""
    assert told.err == "Reused: the answer of record 1, asked just now.\n"
    assert len(provider.requests) == len(records()) == 1
    assert invoke(*asked[:1], *asked[2:]).code == 0  # without --reuse
    assert len(provider.requests) == 2
    assert json.loads(invoke(*asked, "--json").out) == {**records()[1], "reused": True}


@sqlite
def test_ask_json_has_reused_only_with_the_option(invoke: Invoke) -> None:
    assert "reused" not in json.loads(invoke("ask", "--json", "Who?").out)
    assert json.loads(invoke("ask", "--json", "--reuse", "Why?").out)["reused"] is False


@sqlite
def test_reuse_with_another_setting_asks(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "a.txt").write_text("a")
    assert invoke("ask", "Who am I?").code == 0
    others = (
        ["-m", "other"],
        ["-s", "Be brief."],
        ["--max-tokens", "5"],
        ["--schema", "name"],
        ["-f", "a.txt"],
        ["--follow", "1"],
        ["--reuse-max-age", "0m"],
    )
    for number, other in enumerate(others, start=2):
        provider.script(Reply(text=REX))
        done = invoke("ask", "--reuse", *other, "Who am I?")
        assert (done.code, done.out) == (0, REX + "\n"), other
        assert len(provider.requests) == number, other


@sqlite
def test_reuse_compares_content_of_files_and_threads(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "a.txt").write_text("a")
    asked = ("ask", "--reuse-max-age", "7d", "-f", "a.txt", "--follow", "1", "And?")
    assert invoke("ask", "Who am I?").code == 0
    assert invoke(*asked).code == invoke(*asked).code == 0
    assert len(provider.requests) == 2
    (home / "a.txt").write_text("b")
    assert invoke(*asked).code == 0
    assert len(provider.requests) == 3


@sqlite
def test_reuse_after_a_failure_takes_the_newest_answer(
    invoke: Invoke, provider: FakeProvider
) -> None:
    assert invoke("ask", "Who? [[status=500 times=1]]").code == 6
    for text in ("first", "second"):
        provider.script(Reply(text=text, finish_reason="length"))
        assert invoke("ask", "Who? [[status=500 times=1]]").code == 0
    done = invoke("ask", "--reuse", "Who? [[status=500 times=1]]")
    assert done.out == "second\n"
    assert "cut at the token limit" in done.err
    assert len(provider.requests) == 3


@sqlite
def test_reuse_invalid_answer_asks_again(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    asked = ("ask", "--schema", "name", "--reuse", "Invent a dog")
    provider.script(Reply(text=f"```json\n{REX}\n```"))
    assert invoke(*asked).out == invoke(*asked).out == REX + "\n"
    assert len(provider.requests) == 1
    [record] = json.loads(invoke("list", "--json").out)
    # An import may contain a record that is answered, but does not fit its schema.
    odd = {**record, "id": 9, "uid": "odd", "answer": "none"}
    (home / "odd.jsonl").write_text(json.dumps(odd))
    assert invoke("import", "odd.jsonl").code == 0
    provider.script(Reply(text=REX))
    assert invoke(*asked).code == 0
    assert len(provider.requests) == 2


@sqlite
def test_reuse_on_a_terminal_is_reported_and_rendered(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.script(Reply(text="It is **bold**."))
    assert invoke("ask", "Who?").code == 0
    seen = console(invoke, "ask", "--reuse", "Who?")
    assert seen.screen.strip() == "It is bold."
    assert "Reused: the answer of record 1" in seen.err


@sqlite
def test_reuse_needs_no_key_and_no_provider(invoke: Invoke, home: Path) -> None:
    assert invoke("ask", "Who?").code == 0
    command = f"touch {home / 'looked'}"
    done = invoke("ask", "--reuse", "Who?", OPENAI_API_KEY="", QA_KEY_COMMAND=command)
    assert (done.code, done.out) == (0, "Answer to: Who?\n")
    assert not (home / "looked").exists()


def test_reuse_without_the_database_asks_nothing(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "file").touch()
    done = invoke("ask", "--reuse", "Who?", DATABASE_URL=f"sqlite:///{home / 'file' / 'x.db'}")
    assert (done.code, done.out) == (7, "")
    assert provider.requests == []


def test_reuse_imported_thread_finds_its_answer(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    assert invoke("ask", "Who am I?").code == 0
    assert invoke("ask", "--follow", "1", "And?").code == 0
    (home / "all.jsonl").write_text(invoke("export").out)
    elsewhere = {"DATABASE_URL": f"sqlite:///{home / 'elsewhere.db'}"}
    assert invoke("ask", "Something else", **elsewhere).code == 0
    assert invoke("import", "all.jsonl", **elsewhere).code == 0
    asked = len(provider.requests)
    # The id 1 was in use, so "Who am I?" gets another one.
    [moved] = json.loads(invoke("list", "--json", "--search", '"Who am I?"', **elsewhere).out)
    assert moved["id"] != 1
    follow = ("ask", "--reuse", "--json", "--follow", str(moved["id"]), "And?")
    assert json.loads(invoke(*follow, **elsewhere).out)["reused"] is True
    assert len(provider.requests) == asked


@pytest.fixture
def _price(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text('"priced-model" = [0.25, 2.0]\n')


@sqlite
@pytest.mark.usefixtures("_price")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-cost", "0.001"], "may cost $0.002, more than --max-cost 0.001"),
        (["--max-cost", "0"], "1,000 come back"),
        (["--max-cost", "0.1", "--max-tokens", "100000"], "100,000 come back"),
        (["--max-cost", "0.003", "--schema", "name"], "2,000 come back"),
        (["--max-cost", "0.002", "-f", "cat.png"], "1,008 tokens are sent"),
        (["--max-cost", "9", "-m", "unheard-of"], "The price of unheard-of is unknown"),
        (["--max-cost", "nan"], "Invalid value"),
        (["--reuse-max-age", "soon"], "Cannot parse 'soon' as a date or age"),
    ],
)
def test_max_cost_exceeded_or_invalid_asks_nothing(
    invoke: Invoke, provider: FakeProvider, home: Path, arguments: list[str], said: str
) -> None:
    (home / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    done = invoke("ask", "-m", "priced-model", *arguments, "Who?")
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.split())
    assert provider.requests == []


@sqlite
@pytest.mark.usefixtures("_price")
def test_max_cost_not_exceeded_asks_and_reuse_is_free(
    invoke: Invoke, provider: FakeProvider
) -> None:
    asked = ("ask", "-m", "priced-model", "Who?")
    assert invoke(*asked, "--max-cost", "0.003").code == 0
    assert invoke(*asked, "--max-cost", "0", "--reuse").code == 0
    assert invoke(*asked, "--max-cost", "0.0001", "--max-tokens", "40").code == 0
    assert len(provider.requests) == 2


@sqlite
@pytest.mark.usefixtures("_price")
def test_max_cost_counts_earlier_turns(invoke: Invoke) -> None:
    assert invoke("ask", "-m", "priced-model", "x" * 8000).code == 0
    done = invoke("ask", "-m", "priced-model", "--max-cost", "0.002", "-c", "And?")
    assert done.code == 2
    assert "about 4,0" in done.err


@sqlite
def test_verbose_shows_the_request_without_secrets(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(3000))
    done = invoke("ask", "-v", "-f", "cat.png", f"Is my key {KEY}? ß")
    assert done.code == 0
    head, _, rest = done.err.partition("\n\n")
    assert head.splitlines()[0] == f"POST {provider.base_url}/chat/completions"
    assert "Authorization: Bearer ***" in head.splitlines()
    body, end = rest.rsplit("\n}\n", 1)
    shown, sent = json.loads(body + "}"), provider.requests[0].body
    assert shown["model"] == sent["model"]
    assert shown["messages"][0]["content"][2]["text"] == "Is my key ***? ß"
    image = shown["messages"][0]["content"][1]["image_url"]["url"]
    assert image.startswith("data:image/png;base64,iVBOR")
    assert len(image) < 80
    assert KEY not in done.err
    assert end == "Answered, kept as record 1.\n"


@sqlite
def test_verbose_hides_secrets_of_an_address(invoke: Invoke, provider: FakeProvider) -> None:
    address = provider.base_url.replace("://", "://me:hunter2@") + "?code=hunter3"
    done = invoke("ask", "-v", "Who?", OPENAI_BASE_URL=address)
    first = done.err.splitlines()[0]
    assert first.startswith("POST http://127.0.0.1:")
    assert first.endswith("?code=***")
    assert "hunter2" not in done.err
    assert "hunter3" not in done.err


@sqlite
def test_verbose_shows_each_attempt(invoke: Invoke, console: Callable[..., Any]) -> None:
    asked = ("ask", "--retries", "1", "Who? [[status=503 times=1 retry_after=0]]")
    assert invoke(*asked, "-v").err.count("POST ") == 2
    assert "POST " not in console(invoke, "ask", "Who?").err
    assert invoke("ask", "-v", "-q", "Who?").err == ""

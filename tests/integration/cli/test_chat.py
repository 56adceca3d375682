from __future__ import annotations

import json
import signal
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply
from person import CTRL_C, CTRL_D, ENTER, ESCAPE, PROMPT, TAB, UP, Person

from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke, Records

# One database: what differs between them is tested elsewhere.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def chat(at_terminal: Callable[..., Person]) -> Callable[..., Person]:
    """Return a function that starts `qa chat` on a terminal, with a user who types."""
    return partial(at_terminal, "chat")


def messages(provider: FakeProvider, number: int = -1) -> list[Any]:
    return [message["content"] for message in provider.requests[number].body["messages"]]


def test_chat_each_turn_follows_the_record_before(
    chat: Callable[..., Person], provider: FakeProvider, records: Records, home: Path
) -> None:
    provider.script(Reply(text="It is **cold**."))
    person = chat("--tag", "t", "--system", "Brief.", "--temperature", "0.5", "--max-tokens", "9")
    person.see("Asking test-model.")
    person.say("In summer?")
    person.see("It is cold.")
    person.say("And in winter?")
    person.see("Answer to: And in winter?")
    assert person.leave("/exit\r") == 0
    assert "\x1b[1mcold\x1b[0m" in person.output
    assert messages(provider, 0) == ["Brief.", "In summer?"]
    assert messages(provider, 1) == ["Brief.", "In summer?", "It is **cold**.", "And in winter?"]
    first, second = records()
    assert (first["follows_id"], second["follows_id"]) == (None, 1)
    for record in (first, second):
        assert record["status"] == "answered"
        assert record["system"] == "Brief."
        assert record["tags"] == ["t"]
        assert record["params"] == {"model": "test-model", "temperature": 0.5, "max_tokens": 9}
    assert not list((home / "data").glob("*.outbox/*"))


def test_chat_ctrl_c_stops_only_the_answer(
    chat: Callable[..., Person], provider: FakeProvider, records: Records
) -> None:
    person = chat()
    person.say("Who am I? [[stall=3]]")
    person.see("Answer to: Who")
    assert not person.echoes
    person.type(CTRL_C + CTRL_C)
    person.see("Interrupted, kept as record 1.")
    person.see(PROMPT)
    person.type("half a question" + CTRL_C)
    person.see(PROMPT)
    person.type(CTRL_C)
    person.see("To leave, press Ctrl-D or type /exit.")
    person.say("Go on")
    person.see("Answer to: Go on")
    assert person.leave() == 0
    assert messages(provider) == ["Who am I? [[stall=3]]", "Answer to: Who", "Go on"]
    first, second = records()
    assert (first["status"], first["answer"]) == ("interrupted", "Answer to: Who")
    assert (second["status"], second["follows_id"]) == ("answered", 1)


def test_chat_unanswered_question_is_left_out_of_the_thread(
    chat: Callable[..., Person],
    provider: FakeProvider,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    person = chat("--raw")
    person.say("One")
    person.see("Answer to: One")
    person.say("Two [[hang]]")
    wait_for(lambda: len(provider.requests) == 2)
    person.type(CTRL_C)
    person.say("Three")
    person.see("Answer to: Three")
    assert person.leave() == 0
    assert messages(provider) == ["One", "Answer to: One", "Three"]
    assert [record["follows_id"] for record in records()] == [None, 1, 1]
    assert [record["status"] for record in records()] == ["answered", "interrupted", "answered"]


def test_chat_provider_error_is_shown_and_chat_continues(
    chat: Callable[..., Person], provider: FakeProvider, records: Records
) -> None:
    person = chat()
    person.say("One")
    person.say("Two [[status=503 times=1]]")
    person.see("Failed, kept as record 2.")
    person.see("qa: The provider answered 503")
    for _ in range(3):
        person.say("/retry")
        person.see("Answer to: Two")
    # A retry without an answer leaves the earlier answer in place.
    provider.script(Reply(status=400))
    person.say("/retry")
    person.see("qa: The provider answered 400")
    person.say("Three")
    person.see("Answer to: Three")
    assert person.leave() == 0
    assert [record["follows_id"] for record in records()] == [None, *[1] * 5, 5]
    assert messages(provider)[::2] == ["One", "Two [[status=503 times=1]]", "Three"]


def test_chat_rejected_key_exits(chat: Callable[..., Person], records: Records) -> None:
    person = chat()
    person.say("One [[status=401]]")
    person.see("qa: The provider answered 401")
    assert person.end() == 3
    assert records()[0]["status"] == "failed"


def test_chat_sigterm_exits_and_records_the_text_so_far(
    chat: Callable[..., Person], records: Records
) -> None:
    person = chat()
    person.say("Who? [[stall=2]]")
    person.see("Answer to:")
    person.process.send_signal(signal.SIGTERM)
    assert person.end() == 143
    assert records()[0]["answer"] == "Answer to:"
    person = chat()
    person.see(PROMPT)
    person.process.send_signal(signal.SIGTERM)
    assert person.end() == 143


def test_chat_prompt_has_completion_lines_pasting_and_private_history(
    chat: Callable[..., Person], provider: FakeProvider, home: Path
) -> None:
    person = chat()
    person.see(PROMPT)
    person.type("/mo" + TAB + "m-9" + ENTER)
    person.see("Asking m-9.")
    person.say("first" + ESCAPE + ENTER + "second")
    person.see("Answer to: first")
    person.say("\x1b[200~pasted\r\nlines\x1b[201~ end")
    person.see("Answer to: pasted")
    assert person.leave() == 0
    assert provider.requests[0].body["model"] == "m-9"
    assert [request.question for request in provider.requests] == [
        "first\nsecond",
        "pasted\nlines end",
    ]
    kept = home / "data" / "chat_history"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    person = chat("--no-save")
    person.say("not kept")
    person.see("Answer to: not kept")
    assert person.leave() == 0
    person = chat()
    person.see(PROMPT)
    person.type(UP + ENTER)
    person.see("Answer to: pasted")
    assert person.leave() == 0
    assert "not kept" not in kept.read_text()


def test_chat_output_to_a_file_has_no_prompt(chat: Callable[..., Person], home: Path) -> None:
    with (home / "out").open("wb") as out:
        person = chat(out=out.fileno())
        person.say("Who?")
        person.see("\n" + PROMPT)
        person.type(CTRL_D)
        assert person.end() == 0
    assert (home / "out").read_text() == "Answer to: Who?\n"


def test_chat_script_asks_each_line(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    done = invoke("chat", input="One\n\n  \nTwo\r\nThree")
    assert (done.code, done.err) == (0, "")
    assert done.out == "Answer to: One\nAnswer to: Two\nAnswer to: Three\n"
    assert messages(provider) == ["One", "Answer to: One", "Two", "Answer to: Two", "Three"]
    assert [record["follows_id"] for record in records()] == [None, 1, 2]


def test_chat_script_ends_at_its_first_error(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    done = invoke("chat", input="One\nTwo [[cut=2]]\nThree\n")
    assert (done.code, done.out) == (6, "Answer to: One\nAnswer to:\n")
    assert done.err.startswith("qa: ")
    assert done.err.count("\n") == 1
    assert len(provider.requests) == len(records()) == 2
    done = invoke("chat", input=b"One\ncaf\xe9\nThree")
    assert (done.code, done.out) == (2, "Answer to: One\n")
    assert "Line 2 of the input is not UTF-8 text: byte 4 is 0xe9." in done.err
    done = invoke("chat", input="/shwo\n")
    assert (done.code, done.out) == (2, "")
    assert "There is no command /shwo. Did you mean /show?" in done.err


def test_chat_commands_change_the_request(
    invoke: Invoke, provider: FakeProvider, records: Records, home: Path
) -> None:
    (home / "a b.txt").write_text("text")
    script = (
        "/model m-2\n/system Be brief.\nOne\n/show\n"
        '/file "a b.txt"\nTwo\n/system ""\nThree\n'
        "/new\n/model\n//etc is what?\n/show\n/help\n/exit\nnever asked\n"
    )
    done = invoke("chat", input=script)
    assert done.code == 0
    assert done.out.count("Answer to: ") == 4
    assert done.out.endswith("Answer to: Three\nAnswer to: /etc is what?\n")
    for said in (
        "Asking m-2.\nSystem prompt: Be brief.\nRecord 1: answered. ",
        "Before the next question: a b.txt (4 bytes).",
        "There is no system prompt.\nStarted a new thread.\nAsking m-2.\nRecord 4: answered. ",
        "/retry: ask",
    ):
        assert said in done.err
    assert {request.body["model"] for request in provider.requests} == {"m-2"}
    file = '<file name="a b.txt">\ntext\n</file>\n\nTwo'
    assert messages(provider, 1) == ["Be brief.", "One", "Answer to: One", file]
    assert messages(provider, 2)[2::2] == [file, "Three"]
    assert messages(provider, 3) == ["/etc is what?"]
    kept = records()
    assert [record["follows_id"] for record in kept] == [None, 1, 2, None]
    assert [record["system"] for record in kept] == ["Be brief.", "Be brief.", None, None]
    assert [file["name"] for file in kept[1]["attachments"]] == ["a b.txt"]


def test_chat_invalid_command_is_explained_and_chat_continues(
    chat: Callable[..., Person], provider: FakeProvider
) -> None:
    person = chat()
    for command, said in [
        ("/retry", "Nothing has been asked yet."),
        ("/show", "Nothing has been asked yet."),
        ("/file", "No file is waiting."),
        ("/file none.txt", "none.txt cannot be read"),
        ("/file -", "Standard input has the lines of the chat."),
        ("/model local:/none.gguf", "/none.gguf"),
        ("/usr/bin/qa is what?", "// starts a question with a slash"),
        ("   ", ""),
    ]:
        person.say(command)
        person.see(said)
    person.say("/model")
    person.see("Asking test-model.")
    assert person.leave() == 0
    assert provider.requests == []


def test_chat_follow_continues_from_a_record(
    invoke: Invoke, provider: FakeProvider, records: Records, database_url: str
) -> None:
    store = Store.open(database_url)
    for text in ("One", "Other"):
        outcome = Outcome(status=Status.ANSWERED, answer=f"Answer to: {text}")
        store.upsert(Question(question=text), outcome)
    store.close()
    assert invoke("chat", "--follow", "1", input="Two\n/retry").code == 0
    assert invoke("chat", "-c", input="Three [[status=500]]\n").code == 6
    assert invoke("chat", "-c", input="Three\n").code == 0
    assert [record["follows_id"] for record in records()] == [None, None, 1, 1, 4, 4]
    assert messages(provider) == ["One", "Answer to: One", "Two", "Answer to: Two", "Three"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-c"], 4, "There is no record yet."),
        (["--follow", "9"], 4, "There is no record 9."),
        (["--temperature", "3"], 2, "The temperature 3.0 is out of range."),
        (["--model", "local:/none.gguf"], 2, "/none.gguf"),
        (["What?"], 2, "What?"),
    ],
)
def test_chat_invalid_arguments_ask_nothing(
    invoke: Invoke, provider: FakeProvider, arguments: list[str], code: int, said: str
) -> None:
    done = invoke("chat", *arguments, input="One")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert provider.requests == []


def test_chat_long_thread_drops_its_oldest_turns_with_a_message(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    texts = [f"{number} {'word ' * 20}" for number in range(4)]
    done = invoke("chat", input="\n".join(texts), QA_CONTEXT_TOKENS="100")
    assert done.code == 0
    assert done.err.count("had no room; QA_CONTEXT_TOKENS allows more.") == 2
    assert "The 2 oldest turns of the thread had no room" in done.err
    assert messages(provider)[::2] == [texts[2], texts[3]]
    assert [record["follows_id"] for record in records()] == [None, 1, 2, 3]


@pytest.mark.usefixtures("empty_database")
def test_chat_no_save_has_its_thread_in_memory(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    done = invoke("chat", "--no-save", input="One\nTwo\n/show\n")
    assert done.code == 0
    assert messages(provider) == ["One", "Answer to: One", "Two"]
    assert "is not saved (--no-save)" in done.err
    assert not (home / "data").exists()


@pytest.mark.usefixtures("empty_database")
def test_chat_without_its_database_loses_nothing(
    invoke: Invoke, provider: FakeProvider, records: Records, home: Path
) -> None:
    (home / "data").mkdir()
    (home / "data" / "history.db").write_text("This is no database. " * 100)
    done = invoke("chat", input="One\nTwo\n/show\nThree\n")
    assert done.code == 0
    assert done.out == "Answer to: One\nAnswer to: Two\nAnswer to: Three\n"
    assert done.err.count("safe in the outbox") == 3
    assert "The last question waits in the outbox." in done.err
    assert messages(provider) == ["One", "Answer to: One", "Two", "Answer to: Two", "Three"]
    (home / "data" / "history.db").unlink()
    assert json.loads(invoke("list", "--json").out)
    kept = records()
    assert [record["question"] for record in kept] == ["One", "Two", "Three"]
    assert [record["follows_id"] for record in kept] == [None, 1, 2]


def test_chat_without_stream_requests_each_answer_in_one_piece(
    invoke: Invoke, provider: FakeProvider
) -> None:
    done = invoke("chat", "--no-stream", input="One?\nTwo?\n")
    assert done.out == "Answer to: One?\nAnswer to: Two?\n"
    assert [bool(request.body.get("stream")) for request in provider.requests] == [False, False]


def test_chat_with_a_time_limit_ends_a_slow_answer(invoke: Invoke, provider: FakeProvider) -> None:
    provider.script(Reply(stall=1))
    done = invoke("chat", "--timeout", "0.3", input="One?\n")
    assert done.code == 6

"""`--auto-title`: the model names a thread after its first answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_provider import Reply

from qacli.cli.text_width import cell_width
from qacli.domain import Outcome, Status, create_question
from qacli.services.title import MAX_GENERATED_TITLE_CHARACTERS, clean_title

from .conftest import on_terminal

if TYPE_CHECKING:
    from conftest import Invoke, Records
    from fake_provider import FakeProvider

    from qacli.db.records import Store

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANSWER = Reply(text="Forty.")
TITLE = Reply(text='**Title: "The boat 🌍"**\n\nIt fits.')


def titles(records: Records) -> list[str | None]:
    return [record["title"] for record in records()]


@pytest.mark.parametrize("options", [[], ["--json"], ["-o", "file"]], ids=" ".join)
@on_sqlite
def test_auto_title_names_the_thread_and_counts_its_tokens(
    invoke: Invoke, provider: FakeProvider, records: Records, options: list[str]
) -> None:
    assert invoke("ask", "How many?").code == 0
    provider.script(ANSWER, TITLE)
    done = invoke("ask", "--auto-title", *options, "How many?")
    assert (done.code, done.err) == (0, "")
    alone, record = records()
    assert record["title"] == "The boat 🌍"
    assert record["prompt_tokens"] > 2 * alone["prompt_tokens"]
    assert record["answer"] == "Forty."
    sent = provider.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user"]
    assert "How many?" in sent[0]["content"]
    assert "Forty." in sent[0]["content"]


def test_auto_title_of_a_follow_up_asks_nothing(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    provider.script(ANSWER, TITLE)
    assert invoke("ask", "How many?", QA_AUTO_TITLE="true").code == 0
    assert invoke("ask", "-c", "And now?", QA_AUTO_TITLE="true").code == 0
    assert invoke("ask", "--no-auto-title", "Another?", QA_AUTO_TITLE="true").code == 0
    assert len(provider.requests) == 4
    assert titles(records) == ["The boat 🌍", None, None]
    screen = on_terminal(invoke, "list").screen.splitlines()
    assert "The boat 🌍 · How many?" in screen[1]
    assert invoke("title", "1", "The ship").code == 0
    assert "The ship · How many?" in on_terminal(invoke, "list").screen
    assert "How many?" in on_terminal(invoke, "list", "-s", "many").screen.splitlines()[1]


@on_sqlite
def test_auto_title_asks_the_model_of_the_setting(invoke: Invoke, provider: FakeProvider) -> None:
    provider.script(ANSWER, TITLE)
    assert invoke("ask", "--auto-title", "How many?", QA_TITLE_MODEL="small").code == 0
    assert [request.body["model"] for request in provider.requests] == ["test-model", "small"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=400, message="No titles."), "No titles."),
        (Reply(text="# **\n"), "empty title"),
        (Reply(text="Late", latency=1), "did not come within 0.1 s"),
    ],
    ids=["refused", "blank", "slow"],
)
@on_sqlite
def test_auto_title_that_fails_does_not_fail_the_question(
    invoke: Invoke,
    provider: FakeProvider,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
    reason: str,
) -> None:
    monkeypatch.setattr("qacli.services.title.TITLE_SECONDS", 0.1)
    provider.script(ANSWER, reply)
    done = invoke("ask", "--auto-title", "-v", "How many?")
    assert (done.code, done.out) == (0, "Forty.\n")
    assert reason in done.err
    assert "To name it: qa title 1 TITLE" in done.err
    assert titles(records) == [None]


@on_sqlite
def test_auto_title_of_a_failed_question_asks_nothing(
    invoke: Invoke, provider: FakeProvider
) -> None:
    provider.script(Reply(status=400, message="No."))
    assert invoke("ask", "--auto-title", "How many?").code == 5
    assert len(provider.requests) == 1


@pytest.mark.parametrize("options", [["--no-save"], ["-m", "a", "-m", "b"]], ids=" ".join)
@on_sqlite
def test_auto_title_without_one_record_is_refused(
    invoke: Invoke, provider: FakeProvider, options: list[str]
) -> None:
    done = invoke("ask", "--auto-title", *options, "How many?")
    assert done.code == 2
    assert "--auto-title" in done.err
    assert provider.requests == []
    assert invoke("ask", *options, "How many?", QA_AUTO_TITLE="true").code == 0


@on_sqlite
def test_chat_auto_title_names_each_new_thread(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    provider.script(ANSWER, TITLE, ANSWER, ANSWER, Reply(text="Two"))
    lines = "How many?\nAnd now?\n/new\nA third?\n"
    done = invoke("chat", "--auto-title", input=lines)
    assert (done.code, done.out) == (0, "Forty.\n" * 3)
    assert titles(records) == ["The boat 🌍", None, "Two"]


def test_add_title_keeps_a_title_and_unknown_counts(store: Store) -> None:
    question = create_question("Who?", model="m", system=None, params={})
    answer = Outcome(status=Status.ANSWERED, answer="I.", prompt_tokens=5, cost_usd=0.25)
    record_id = store.upsert(question, answer)
    usage = Outcome(prompt_tokens=7, completion_tokens=3, cost_usd=0.5)
    store.add_title(record_id, None, usage)
    store.add_title(record_id, "First", Outcome())
    store.add_title(record_id, "Second", usage)
    record = store.get(record_id)
    assert record.title == "First"
    assert (record.prompt_tokens, record.completion_tokens, record.cost_usd) == (19, None, 1.25)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Boats of Greece", "Boats of Greece"),
        ('\n## "Boats of Greece"\nmore', "Boats of Greece"),
        ("Title: *Boats*", "Boats"),
        ("F# or C#", "F# or C#"),
        ("«Les bateaux»", "Les bateaux"),
        ("***", ""),
        ("", ""),
        ("Title:\nWhy bicycles", "Why bicycles"),
        ("**Title:**\n\nWhy *two* bicycles", "Why *two* bicycles"),
        ("**Title**: Boats", "Boats"),
        ("__Titre :__ **Bateaux**", "Bateaux"),
        ("Title:\n\n***\n", ""),
        ("__init__ and friends", "__init__ and friends"),
        ("`asyncio.gather` explained", "`asyncio.gather` explained"),
        ('"Foo" vs "Bar"', '"Foo" vs "Bar"'),
        ("“Foo” vs “Bar”", "“Foo” vs “Bar”"),
        ("Why we say “Foo”", "Why we say “Foo”"),
        ("**“Foo”**", "Foo"),
        ("„Boote“", "Boote"),
    ],
)
def test_clean_title_is_the_first_line_without_markup(text: str, title: str) -> None:
    assert clean_title(text) == title


def test_clean_title_of_a_long_line_is_cut() -> None:
    title = clean_title("word " * 100)
    assert cell_width(title) == MAX_GENERATED_TITLE_CHARACTERS
    assert title.endswith("…")

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Invoke, Postgres, Program
from fake_provider import FakeProvider

from qacli.config.settings import Settings
from qacli.db.export import PAGE
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status


def test_record_can_be_tagged_followed_searched_and_removed(invoke: Invoke) -> None:
    assert invoke("ask", "one", "--tag", "new").code == 0
    assert invoke("tag", "last", "+good", "-new").out == "1: good\n"
    assert invoke("ask", "-c", "two").code == 0
    thread = json.loads(invoke("show", "last", "--thread", "--json").out)
    assert [(each["question"], each["follows_id"]) for each in thread] == [
        ("one", None),
        ("two", 1),
    ]
    found = json.loads(invoke("list", "--search", "one?", "--tag", "good", "--json").out)
    assert [each["id"] for each in found] == [1]
    assert invoke("tag", "1", "good").code == 2
    gone = invoke("rm", "1", "9")
    assert (gone.code, "no record 9" in gone.err) == (4, True)
    assert invoke("show", "1").code == 4
    assert invoke("tag", "-1", "+newest", "--json").out == '{"id": 2, "tags": ["newest"]}\n'
    assert invoke("tag", "-2", "+none").code == 4
    assert invoke("tag", "one", "+none").code == 2
    assert invoke("show", "-1", "--field", "question").out == "two\n"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("tag", ["", "  ", " a", "\n"])
def test_tag_invalid_is_refused_by_every_command(
    invoke: Invoke, provider: FakeProvider, tag: str
) -> None:
    assert invoke("ask", "one", "--tag", "+").code == 0
    asked = len(provider.requests)
    for arguments in (
        ["ask", "two", "--tag", "a", "--tag", tag],
        ["chat", "--tag", tag],
        ["tag", "1", f"+{tag}"],
    ):
        refused = invoke(*arguments, input="two")
        assert (refused.code, refused.out) == (2, ""), arguments
    assert repr(tag) in invoke("ask", "two", "--tag", tag).err
    assert len(provider.requests) == asked
    assert [each["tags"] for each in json.loads(invoke("list", "--json").out)] == [["+"]]


def test_ask_follow_sends_the_thread(invoke: Invoke, provider: FakeProvider) -> None:
    invoke("ask", "one")
    invoke("ask", "--follow", "1", "two", "--system", "Be brief.")
    assert [message["content"] for message in provider.requests[-1].body["messages"]] == [
        *("Be brief.", "one", "Answer to: one", "two"),
    ]
    short = invoke("ask", "--follow", "2", "three", QA_CONTEXT_TOKENS="1")
    assert "1 oldest turn" in short.err
    # With the system prompt of the thread.
    assert len(provider.requests[-1].body["messages"]) == 4
    assert invoke("ask", "--follow", "99", "four").code == 4


def test_prune_without_yes_only_reports_the_number(invoke: Invoke) -> None:
    invoke("ask", "one")
    assert "Would remove: 1 record" in invoke("prune", "--older-than", "0m").out
    assert json.loads(invoke("list", "--json").out)
    assert "Removed: 1 record" in invoke("prune", "--older-than", "0m", "--yes").out
    assert json.loads(invoke("list", "--json").out) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_rm_and_prune_leave_no_text_in_the_database_file(invoke: Invoke, home: Path) -> None:
    for question in ("a secretword", "stays", "another secretword"):
        invoke("ask", question)
    assert invoke("rm", "1").code == 0
    assert invoke("prune", "--older-than", "0m", "--yes").code == 0
    files = [path for path in (home / "data").rglob("*") if path.is_file()]
    assert "history.db" in {path.name for path in files}
    for path in files:
        assert b"secretword" not in path.read_bytes(), path.name


def test_export_takes_the_filters_of_list(invoke: Invoke) -> None:
    invoke("ask", "one", "--system", "Be brief.")
    invoke("ask", "-c", "two", "--system", "")
    invoke("ask", "three", "--tag", "t")
    for filters, found in (
        (["--system", "brief"], ["one"]),
        (["--follow", "1"], ["two"]),
        (["--tag", "t", "--status", "answered", "--since", "1h"], ["three"]),
        (["--search", "one", "--until", "0m"], ["one"]),
    ):
        lines = invoke("export", *filters).out.splitlines()
        assert [json.loads(line)["question"] for line in lines] == found
        assert [
            each["question"] for each in json.loads(invoke("list", *filters, "--json").out)
        ] == found
        (row,) = json.loads(invoke("stats", *filters, "--by", "model", "--json").out)
        assert row["records"] == 1
    (row,) = json.loads(invoke("stats", "--by", "tag", "--tag", "t", "--json").out)
    assert (row["name"], row["records"]) == ("t", 1)


def test_import_of_an_export_twice_adds_records_once(invoke: Invoke) -> None:
    invoke("ask", "one")
    export = invoke("export").out
    assert invoke("import", "-", input=export).out == "Added: 0 records; 1 were there.\n"
    invoke("rm", "1")
    assert invoke("import", "-", input=export).out == "Added: 1 record; 0 were there.\n"
    assert invoke("export").out == export
    assert invoke("export", "--format", "md").out.startswith("## 1 (")
    assert invoke("export", "--format", "csv").out.startswith("id,question,")
    assert invoke("import", "-", input="nonsense").code == 2
    missing = invoke("import", "nope.jsonl")
    assert missing.code == 2
    assert missing.err == (
        "qa: nope.jsonl cannot be read: No such file or directory. Name an export.\n"
    )
    assert json.loads(invoke("stats", "--json").out)[0]["records"] == 1
    assert "test-model" in invoke("stats", "--by", "model").out
    host = invoke.env["OPENAI_BASE_URL"].split("/")[2]
    (row,) = json.loads(invoke("stats", "--by", "endpoint", "--endpoint", host, "--json").out)
    assert (row["name"], row["records"]) == (host, 1)
    for command in ("list", "export"):
        assert "Answer to: one" in invoke(command, "--endpoint", host).out
        assert invoke(command, "--endpoint", "localhost").out == ""
    assert invoke("stats", "--by", "nothing").code == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("form", ["jsonl", "md"])
def test_export_of_many_pages_opens_one_connection(
    qa: Program, postgres: Postgres, database_url: str, form: str, wait_for: Callable[..., Any]
) -> None:
    store = Store.open(Settings(database_url=database_url).database)
    answered = Outcome(status=Status.ANSWERED, answer="A")
    items = [(Question(question="Q", item_key=f"{n}"), answered) for n in range(4 * PAGE)]
    store.upsert_items(1, items)
    store.close()
    name = urlsplit(database_url).path[1:]

    def number(query: str) -> int:
        return int(postgres.psql(f"{query} WHERE datname = '{name}'").split()[2])

    # The connection that empties the database between the tests stays open.
    others = "SELECT count(nullif(application_name, 'qa_tests')) FROM pg_stat_activity"

    def sessions() -> int:
        # The counter of sessions is exact only after a session has ended.
        wait_for(lambda: number(others) == 0)
        return number("SELECT sessions FROM pg_stat_database")

    before = sessions()
    assert qa("export", "--format", form).out.count("Q") == len(items)
    assert sessions() - before == 1

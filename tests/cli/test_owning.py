import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Postgres, Program
from fake_provider import FakeProvider

from qacli.config.settings import Settings
from qacli.db.export import PAGE
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status


def test_a_record_is_tagged_followed_up_searched_and_removed(qa: Program) -> None:
    assert qa("ask", "one", "--tag", "new").code == 0
    assert qa("tag", "last", "+good", "-new").out == "1: good\n"
    assert qa("ask", "-c", "two").code == 0
    thread = json.loads(qa("show", "last", "--thread", "--json").out)
    assert [(each["question"], each["follows_id"]) for each in thread] == [
        ("one", None),
        ("two", 1),
    ]
    found = json.loads(qa("list", "--search", "one?", "--tag", "good", "--json").out)
    assert [each["id"] for each in found] == [1]
    assert qa("tag", "1", "good").code == 2
    gone = qa("rm", "1", "9")
    assert (gone.code, "no record 9" in gone.err) == (4, True)
    assert qa("show", "1").code == 4
    assert qa("tag", "-1", "+newest", "--json").out == '{"id": 2, "tags": ["newest"]}\n'
    assert qa("tag", "-2", "+none").code == 4
    assert qa("tag", "one", "+none").code == 2
    assert qa("show", "-1", "--field", "question").out == "two\n"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("tag", ["", "  ", " a", "\n"])
def test_what_is_no_tag_is_refused_at_every_door(
    qa: Program, provider: FakeProvider, tag: str
) -> None:
    assert qa("ask", "one", "--tag", "+").code == 0
    asked = len(provider.requests)
    for arguments in (
        ["ask", "two", "--tag", "a", "--tag", tag],
        ["chat", "--tag", tag],
        ["tag", "1", f"+{tag}"],
    ):
        refused = qa(*arguments, input="two")
        assert (refused.code, refused.out) == (2, ""), arguments
    assert repr(tag) in qa("ask", "two", "--tag", tag).err
    assert len(provider.requests) == asked
    assert [each["tags"] for each in json.loads(qa("list", "--json").out)] == [["+"]]


def test_a_follow_up_takes_its_thread_along(qa: Program, provider: FakeProvider) -> None:
    qa("ask", "one")
    qa("ask", "--follow", "1", "two", "--system", "Be brief.")
    assert [message["content"] for message in provider.requests[-1].body["messages"]] == [
        *("Be brief.", "one", "Answer to: one", "two"),
    ]
    short = qa("ask", "--follow", "2", "three", QA_CONTEXT_TOKENS="1")
    assert "1 oldest turn" in short.err
    assert len(provider.requests[-1].body["messages"]) == 3
    assert qa("ask", "--follow", "99", "four").code == 4


def test_what_is_pruned_is_said_before_it_is_done(qa: Program) -> None:
    qa("ask", "one")
    assert "Would remove: 1 record" in qa("prune", "--older-than", "0m").out
    assert json.loads(qa("list", "--json").out)
    assert "Removed: 1 record" in qa("prune", "--older-than", "0m", "--yes").out
    assert json.loads(qa("list", "--json").out) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_of_what_is_removed_is_left_in_the_file(qa: Program, home: Path) -> None:
    for question in ("a secretword", "stays", "another secretword"):
        qa("ask", question)
    assert qa("rm", "1").code == 0
    assert qa("prune", "--older-than", "0m", "--yes").code == 0
    files = [path for path in (home / "data").rglob("*") if path.is_file()]
    assert "history.db" in {path.name for path in files}
    for path in files:
        assert b"secretword" not in path.read_bytes(), path.name


def test_an_export_has_what_the_filters_of_the_list_choose(qa: Program) -> None:
    qa("ask", "one", "--system", "Be brief.")
    qa("ask", "-c", "two")
    qa("ask", "three", "--tag", "t")
    for filters, found in (
        (["--system", "brief"], ["one"]),
        (["--follows", "1"], ["two"]),
        (["--tag", "t", "--status", "answered", "--since", "1h"], ["three"]),
        (["--search", "one", "--until", "0m"], ["one"]),
    ):
        lines = qa("export", *filters).out.splitlines()
        assert [json.loads(line)["question"] for line in lines] == found
        assert [
            each["question"] for each in json.loads(qa("list", *filters, "--json").out)
        ] == found
        (row,) = json.loads(qa("stats", *filters, "--by", "model", "--json").out)
        assert row["records"] == 1
    (row,) = json.loads(qa("stats", "--by", "tag", "--tag", "t", "--json").out)
    assert (row["name"], row["records"]) == ("t", 1)


def test_an_export_is_imported_once(qa: Program) -> None:
    qa("ask", "one")
    export = qa("export").out
    assert qa("import", "-", input=export).out == "Added: 0 records; 1 were there.\n"
    qa("rm", "1")
    assert qa("import", "-", input=export).out == "Added: 1 record; 0 were there.\n"
    assert qa("export").out == export
    assert qa("export", "--format", "md").out.startswith("## 1 (")
    assert qa("export", "--format", "csv").out.startswith("id,question,")
    assert qa("import", "-", input="nonsense").code == 2
    missing = qa("import", "nope.jsonl")
    assert missing.code == 2
    assert missing.err == (
        "qa: nope.jsonl cannot be read: No such file or directory. Name an export.\n"
    )
    assert json.loads(qa("stats", "--json").out)[0]["records"] == 1
    assert "test-model" in qa("stats", "--by", "model").out
    assert qa("stats", "--by", "nothing").code == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("form", ["jsonl", "md"])
def test_an_export_opens_no_connection_for_each_page(
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

    def sessions() -> int:
        # One is counted for sure once it is gone.
        wait_for(lambda: number("SELECT count(*) FROM pg_stat_activity") == 0)
        return number("SELECT sessions FROM pg_stat_database")

    before = sessions()
    assert qa("export", "--format", form).out.count("Q") == len(items)
    assert sessions() - before == 1

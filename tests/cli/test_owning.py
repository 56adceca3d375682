import json

from conftest import Program
from fake_provider import FakeProvider


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
    assert qa("show", "-1", "--field", "question").out == "two\n"


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
    assert json.loads(qa("stats", "--json").out)[0]["records"] == 1
    assert "test-model" in qa("stats", "--by", "model").out
    assert qa("stats", "--by", "nothing").code == 2

"""`qa title` and `qa rate`, and the lists and statistics that know them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Invoke

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_title_names_a_record_and_its_thread(invoke: Invoke) -> None:
    assert invoke("ask", "Who?").code == 0
    done = invoke("title", "last", "  The \n boat 🌍 ")
    assert (done.code, done.out) == (0, "1: The boat 🌍\n")
    assert "The boat 🌍" in invoke("show", "1").out
    assert invoke("ask", "-c", "And?").code == 0
    assert json.loads(invoke("show", "2", "--json").out)["title"] is None
    assert invoke("list", "--threads").out.endswith("\t2\tThe boat 🌍\n")
    assert json.loads(invoke("title", "1", "", "--json").out) == {"id": 1, "title": None}
    assert invoke("list", "--threads").out.endswith("\t2\tWho?\n")


def test_rate_is_known_to_lists_and_statistics(invoke: Invoke) -> None:
    for question in ("One?", "Two?", "Three?"):
        assert invoke("ask", question).code == 0
    assert invoke("rate", "1", "good").out == "1: 5\n"
    assert json.loads(invoke("rate", "-2", "bad", "--json").out) == {"id": 2, "rating": 1}
    assert [row["id"] for row in json.loads(invoke("list", "--rating", "good", "--json").out)] == [
        1
    ]
    rows = json.loads(invoke("stats", "--by", "rating", "--json").out)
    assert [(row["name"], row["records"]) for row in rows] == [("1", 1), ("5", 1)]
    assert "rated 1" in invoke("show", "2").out
    assert invoke("rate", "2", "none").code == 0
    assert len(json.loads(invoke("stats", "--by", "rating", "--json").out)) == 1


def test_title_and_rating_survive_export_and_import(invoke: Invoke) -> None:
    assert invoke("ask", "Who?").code == 0
    assert invoke("title", "1", "A title").code == 0
    assert invoke("rate", "1", "4").code == 0
    exported = invoke("export").out
    assert invoke("rm", "1").code == 0
    assert invoke("import", "-", input=exported).code == 0
    record = json.loads(invoke("show", "last", "--json").out)
    assert (record["title"], record["rating"]) == ("A title", 4)


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["rate", "1", "6"], 2),
        (["rate", "1", "great"], 2),
        (["rate", "9", "good"], 4),
        (["title", "9", "x"], 4),
        (["title", "1", "x" * 201], 2),
        (["title", "1", "\0"], 2),
        (["list", "--rating", "0"], 2),
    ],
)
def test_title_and_rate_with_invalid_arguments_are_refused(
    invoke: Invoke, arguments: list[str], code: int
) -> None:
    assert invoke("ask", "Who?").code == 0
    assert invoke(*arguments).code == code
    assert json.loads(invoke("show", "1", "--json").out)["title"] is None
